// The stream: one at a time. It is opened anew when other tables are wanted, when it
// broke, and when nothing has come for too long; it is closed while nobody can see
// the page.
const hiddenFor = 2 * 60 * 1000;

class Stream {
  // on has a function for each event, and status(state, text).
  constructor(on) {
    Object.assign(this, { on, want: '', since: 0, every: 1000, wait: 1000 });
    document.addEventListener('visibilitychange', () => this.visible());
    addEventListener('pagehide', () => this.close());
    addEventListener('pageshow', (e) => { if (e.persisted) this.open(); });
  }

  // open leaves the old stream open until the new one speaks, so that the server need
  // not stop and begin again for a page that only wants another table.
  open() {
    const old = this.source;
    clearTimeout(this.silence);
    clearTimeout(this.again);
    this.old?.close();
    this.old = old;
    const source = new EventSource('?get=stream&want=' + encodeURIComponent(this.want) + '&since=' + this.since);
    this.source = source;
    for (const name of Object.keys(this.on)) {
      if (name === 'status') continue;
      source.addEventListener(name, (e) => {
        if (source !== this.source) return;
        this.heard();
        const data = JSON.parse(e.data);
        if (name === 'hello') {
          this.old?.close();
          this.old = null;
          this.every = data.every;
          this.wait = 1000;
        }
        if (name === 'point') this.since = data.t;
        this.on[name](data);
        this.on.status('live');
      });
    }
    source.onerror = () => { if (source === this.source) this.lost(); };
    this.heard();
  }

  close() {
    clearTimeout(this.silence);
    clearTimeout(this.again);
    this.source?.close();
    this.old?.close();
    this.source = this.old = null;
  }

  heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(), Math.max(this.every * 3, 20000));
  }

  lost() {
    this.close();
    this.on.status('lost');
    this.again = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(this.wait * 2, 10000);
  }

  // tables says which are wanted.
  tables(want) {
    if (want === this.want) return;
    this.want = want;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => { if (this.source) this.open(); }, 60);
  }

  visible() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.close(), hiddenFor);
    else if (!this.source) this.open();
  }
}
