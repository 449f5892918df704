// A table that can be sorted and filtered. Rows stay the same elements as long as what
// they show is there, so that the focus stays where it is; beyond a number of rows the
// rest is shown on demand.
const firstRows = 100;

class Table {
  // columns: { title, get(row), show(row) -> string or Node, num, low, css }
  // group: { key(row), make(rows) -> row, what }: rows with the same key are one row, which opens.
  constructor({ caption, columns, id, sort, desc, empty, group }) {
    Object.assign(this, { columns, id, sort, desc: !!desc, empty, group });
    this.opened = new Set();
    this.rows = [];
    this.known = true;
    this.filter = '';
    this.limit = firstRows;
    this.trs = new Map();
    this.heads = columns.map((c, i) => el('th', { scope: 'col', class: css(c) },
      c.get ? el('button', { type: 'button', onclick: () => this.sortBy(i) }, c.title) : el('span', {}, c.title)));
    this.body = el('tbody');
    this.caption = el('caption', {}, caption);
    this.table = el('table', {}, this.caption, el('thead', {}, el('tr', {}, ...this.heads)), this.body);
    this.none = el('p', { class: 'empty' }, 'Waiting for the first rows.');
    this.shown = el('span', {}, '');
    this.more = el('button', { type: 'button', class: 'more', onclick: () => { this.limit = Infinity; this.draw(); } }, 'Show all');
    this.foot = el('div', { class: 'foot' }, this.shown, this.more);
    this.scroll = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, this.table);
    this.box = el('div', {}, this.scroll, this.none, this.foot);
    this.show(false);
    this.mark();
  }

  sortBy(i) {
    this.desc = this.sort === i ? !this.desc : !!this.columns[i].num;
    this.sort = i;
    this.mark();
    this.draw();
  }

  mark() {
    this.heads.forEach((h, i) => {
      if (i === this.sort) h.setAttribute('aria-sort', this.desc ? 'descending' : 'ascending');
      else h.removeAttribute('aria-sort');
    });
  }

  setRows(rows, known = true, failed = '') {
    Object.assign(this, { rows, known, failed });
    this.draw();
  }

  setFilter(text) {
    this.filter = text.trim().toLowerCase();
    this.draw();
  }

  show(any) {
    this.scroll.hidden = !any;
    this.none.hidden = any;
    if (!any) this.foot.hidden = true;
  }

  draw() {
    const words = this.filter.split(/\s+/).filter(Boolean);
    let rows = this.rows;
    if (words.length) rows = rows.filter((r) => { const t = r.text.toLowerCase(); return words.every((w) => t.includes(w)); });
    const found = rows.length;
    rows = this.group ? this.grouped(rows) : this.sorted(rows);
    this.show(rows.length > 0);
    if (rows.length === 0) {
      setText(this.none, !this.known ? this.failed || 'Not known: only a managed client lists them.' :
        words.length && this.rows.length ? 'None of ' + this.rows.length + ' rows has “' + this.filter + '”.' : this.empty);
    }
    const visible = rows.slice(0, this.limit);
    const keep = new Set(visible.map((r) => r.key));
    for (const [key, tr] of this.trs) {
      if (!keep.has(key)) { tr.remove(); this.trs.delete(key); }
    }
    let at = this.body.firstChild;
    for (const row of visible) {
      let tr = this.trs.get(row.key);
      if (!tr) {
        tr = el('tr', {}, ...this.columns.map((c) => el('td', { class: css(c) })));
        this.trs.set(row.key, tr);
      }
      tr.row = row;
      this.fill(tr, row);
      const kind = row.members ? 'group' : row.child ? 'child' : '';
      if (tr.className !== kind) tr.className = kind;
      if (tr === at) at = at.nextSibling;
      else this.body.insertBefore(tr, at);
    }
    this.foot.hidden = rows.length === 0 || (rows.length <= firstRows && !words.length);
    const seen = visible.length < rows.length ? visible.length + ' of ' + found : String(found);
    setText(this.shown, this.group ? (words.length ? found + ' of ' + many(this.rows.length, this.group.what) + ' match' : many(found, this.group.what)) :
      words.length ? seen + (visible.length < rows.length ? ' that match, of ' : ' of ') + many(this.rows.length, 'row') + (visible.length < rows.length ? '' : ' match') : seen + ' rows');
    this.more.hidden = rows.length <= this.limit;
  }

  sorted(rows) {
    const get = this.columns[this.sort]?.get;
    if (!get) return rows;
    const sign = this.desc ? -1 : 1;
    return rows.map((r) => [get(r), r]).sort((a, b) => sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) || order(a[1].key, b[1].key)).map((x) => x[1]);
  }

  // grouped has the groups, and below each that is open what is in it.
  grouped(rows) {
    const by = new Map();
    for (const r of rows) {
      const key = this.group.key(r);
      if (by.has(key)) by.get(key).push(r); else by.set(key, [r]);
    }
    const top = [...by].map(([key, members]) => {
      for (const m of members) m.child = members.length > 1;
      return members.length === 1 ? members[0] : { ...this.group.make(members), key: 'group ' + key, members, open: this.opened.has('group ' + key) };
    });
    return this.sorted(top).flatMap((r) => (r.open ? [r, ...this.sorted(r.members)] : [r]));
  }

  toggle(row) {
    if (!this.opened.delete(row.key)) this.opened.add(row.key);
    this.draw();
  }

  fill(tr, row) {
    this.columns.forEach((c, i) => {
      const td = tr.cells[i];
      if (c.node) { // made once, from then on it asks the row
        if (!td.firstChild) td.append(c.node(tr));
        c.update?.(td.firstChild, row);
        return;
      }
      const text = c.show(row);
      setText(td, text === '' ? unknown : text);
      if (c.tone) {
        const name = css(c) + ' ' + c.tone(row);
        if (td.className !== name) td.className = name;
      }
      if (c.css === 'text' && td.title !== text) td.title = text;
    });
  }
}

function css(c) { return [c.num ? 'num' : '', c.low ? 'low' : '', c.css || ''].filter(Boolean).join(' '); }
function order(a, b) { return a < b ? -1 : a > b ? 1 : 0; }
