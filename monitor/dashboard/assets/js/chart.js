// A chart: its lines, a legend that has the values, and the same in words.
const chartSpecs = [
  { id: 'use', title: 'Pool use', unit: 'of the fullest pool', format: percent, least: 100, most: 100, lines: [
    { name: 'use', label: 'in use', color: 'blue', fill: true },
  ] },
  { id: 'connections', title: 'Connections', format: num, least: 4, lines: [
    { name: 'inUse', label: 'in use', color: 'blue', fill: true },
    { name: 'idle', label: 'idle', color: 'teal' },
    { name: 'peak', label: 'peak', color: 'amber', thin: true },
  ] },
  { id: 'waits', title: 'Waits for a connection', format: num, least: 4, lines: [
    { name: 'waiting', label: 'waiting now', color: 'amber', fill: true },
    { name: 'waits', label: 'waits/s', color: 'violet' },
    { name: 'timeouts', label: 'timeouts/s', color: 'red' },
  ] },
  { id: 'commands', title: 'Commands', unit: 'per second', format: num, least: 10, lines: [
    { name: 'commands', label: 'commands', color: 'blue', fill: true },
  ] },
  { id: 'times', title: 'Time taken', format: ms, least: 0.5, lines: [
    { name: 'commandP50', label: 'command p50', color: 'blue' },
    { name: 'commandP99', label: 'p99', color: 'violet' },
    { name: 'waitP99', label: 'wait p99', color: 'amber' },
  ] },
  { id: 'retries', title: 'Retries and failures', unit: 'per second', format: num, least: 1, lines: [
    { name: 'retries', label: 'retries', color: 'blue', fill: true },
    { name: 'outcomes', label: 'unknown outcome', color: 'amber' },
    { name: 'dialErrors', label: 'failed dials', color: 'red' },
  ] },
  { id: 'churn', title: 'Opened and closed', unit: 'per second', format: num, least: 1, lines: [
    { name: 'dialed', label: 'opened', color: 'teal' },
    { name: 'closed', label: 'closed', color: 'violet' },
  ] },
];

// leastSeconds are shown from the beginning.
const leastSeconds = 30;

// alone finds the points that no line shows, as there is nothing known beside them.
function alone(u, series, show) {
  const y = u.data[series], found = [];
  const none = (v) => v === null || v === undefined;
  for (let i = 0; i < y.length; i++) if (!none(y[i]) && none(y[i - 1]) && none(y[i + 1])) found.push(i);
  return found;
}

// The colors of marks by their kind: those of the last kind are on top where marks overlap.
const markColors = { note: 'amber', good: 'teal', bad: 'red' };

const ruler = document.createElement('canvas').getContext('2d');
function textWidth(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width;
}

function cssColor(name) { return getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim(); }

class Chart {
  constructor(spec) {
    this.spec = spec;
    this.names = spec.lines.map((l) => l.name);
    this.values = spec.lines.map(() => el('b', {}, unknown));
    this.time = el('span', { class: 'at', 'aria-hidden': 'true' });
    this.plotBox = el('div', { class: 'plot', role: 'img', tabindex: '0', id: 'plot-' + spec.id, 'aria-label': spec.title + ': no numbers yet' });
    this.box = el('figure', { class: 'chart', 'aria-labelledby': 'title-' + spec.id },
      el('figcaption', {},
        el('h2', { id: 'title-' + spec.id }, spec.title, spec.unit ? el('small', {}, spec.unit) : null, this.time),
        el('ul', { class: 'legend' }, ...spec.lines.map((l, i) =>
          el('li', {}, el('span', { class: 'swatch c-' + l.color, 'aria-hidden': 'true' }), l.label, ' ', this.values[i])))),
      this.plotBox);
    this.plotBox.addEventListener('keydown', (e) => this.key(e));
    this.plotBox.addEventListener('blur', () => this.plot && this.plot.setCursor({ left: -10, top: -10 }));
    this.data = [[], ...this.names.map(() => [])];
    new ResizeObserver(() => this.resize()).observe(this.plotBox);
  }

  build() {
    if (this.plot) this.plot.destroy();
    const line = cssColor('line'), muted = cssColor('muted');
    const font = '11px ' + getComputedStyle(document.body).fontFamily;
    const { spec } = this;
    this.plot = new uPlot({
      width: Math.max(this.plotBox.clientWidth, 50), height: this.plotBox.clientHeight,
      legend: { show: false }, padding: [8, 28, 0, 0],
      cursor: { sync: { key: 'lifeguard' }, drag: { x: false, y: false, setScale: false }, y: false,
        points: { size: 6, width: 0 } },
      scales: {
        x: { time: true, range: () => [this.from, this.to] },
        y: { range: (u, lo, hi) => [0, Math.min(Math.max(hi === null ? 0 : hi * 1.08, spec.least), spec.most ?? Infinity)] },
      },
      axes: [
        { stroke: muted, font, size: 24, space: 62, grid: { show: false }, ticks: { show: false },
          values: (u, ts) => ts.map((t) => clock(t * 1000).slice(0, ts.some((x) => x % 60) ? 8 : 5)) },
        { stroke: muted, font, size: (u, labels) => Math.ceil(Math.max(24, ...(labels ?? []).map((l) => textWidth(l, font)))) + 14, space: 34, gap: 8, ticks: { show: false }, grid: { stroke: line, width: 1 },
          values: (u, vs) => vs.map((v) => (v === 0 ? '0' : spec.format(v))) },
      ],
      series: [{}, ...spec.lines.map((l) => {
        const c = cssColor(l.color);
        return { stroke: c, width: l.dash || l.thin ? 1.2 : 1.8, dash: l.dash ? [5, 5] : l.thin ? [2, 3] : undefined,
          fill: l.fill ? c + '26' : undefined, points: { show: true, size: 3, width: 0, fill: c, filter: alone }, spanGaps: false };
      })],
      hooks: { setCursor: [() => this.legend()], draw: [(u) => this.drawMarks(u)] },
    }, this.data, this.plotBox);
  }

  // drawMarks draws a line where something happened.
  drawMarks(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    const kinds = Object.keys(markColors);
    for (const m of [...this.marks()].sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind))) {
      const x = Math.round(u.valToPos(m.t / 1000, 'x', true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = cssColor(markColors[m.kind] ?? 'grey');
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 4 * ratio, bbox.top - 5 * ratio);
      ctx.lineTo(x + 4 * ratio, bbox.top - 5 * ratio);
      ctx.lineTo(x, bbox.top + ratio);
      ctx.fill();
    }
    ctx.restore();
  }

  // marks are those of the time that is shown.
  marks() { return marks.filter((m) => m.t / 1000 >= this.from && m.t / 1000 <= this.to); }

  // near is what happened where the cursor is, within a few pixels.
  near(t) {
    const within = 6 * (this.to - this.from) / Math.max(this.plotBox.clientWidth, 50);
    return this.marks().filter((m) => Math.abs(m.t / 1000 - t) <= within).map((m) => m.text).join('; ');
  }

  resize() {
    if (this.plot && this.plotBox.clientWidth > 0) this.plot.setSize({ width: this.plotBox.clientWidth, height: this.plotBox.clientHeight });
  }

  // draw shows the seconds before a time; fewer, as long as there are no more.
  draw(series, seconds, to) {
    const first = series.t[0] ?? to;
    this.to = to;
    this.from = Math.max(to - seconds, Math.min(first, to - Math.min(seconds, leastSeconds)));
    this.data = series.since(this.from, this.names);
    if (!this.plot) this.build(); else this.plot.setData(this.data);
    this.legend();
  }

  // at is what the cursor is on, else the newest.
  at() {
    const i = this.plot ? this.plot.cursor.idx : null;
    return i === null || i === undefined ? this.data[0].length - 1 : i;
  }

  legend() {
    const i = this.at();
    this.values.forEach((e, n) => setText(e, this.spec.format(this.data[n + 1][i] ?? null)));
    const { idx, left } = this.plot?.cursor ?? {};
    const t = idx === null || idx === undefined || left < 0 ? null : this.data[0][idx];
    setText(this.time, t === null ? '' : [clock(t * 1000), this.near(this.plot.posToVal(left, 'x'))].filter(Boolean).join(' '));
    this.time.title = this.time.textContent;
  }

  // describe says in words what the lines show.
  describe() {
    const parts = this.spec.lines.map((l, n) => {
      const known = this.data[n + 1].filter((v) => v !== null);
      const f = this.spec.format;
      if (known.length === 0) return l.label + ' not known';
      const lo = known.reduce((a, b) => Math.min(a, b)), hi = known.reduce((a, b) => Math.max(a, b));
      return l.label + ' ' + f(this.data[n + 1][this.data[0].length - 1] ?? null).replace(unknown, 'not known') + ', from ' + f(lo) + ' to ' + f(hi);
    });
    const text = this.spec.title + (this.spec.unit ? ' ' + this.spec.unit : '') + ', the last ' + span((this.to - this.from) * 1000) +
      ': ' + parts.join('; ') + '. Arrow keys read single points.';
    this.plotBox.setAttribute('aria-label', text);
  }

  // key moves the cursor from point to point, and says what is there.
  key(e) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[e.key];
    if (!this.plot || !(step || e.key === 'Home' || e.key === 'End')) return;
    e.preventDefault();
    const n = this.data[0].length;
    if (n === 0) return;
    let i = e.key === 'Home' ? 0 : e.key === 'End' ? n - 1 : this.at() + step;
    i = Math.min(Math.max(i, 0), n - 1);
    const left = Math.max(this.plot.valToPos(this.data[0][i], 'x'), 0);
    this.plot.setCursor({ left, top: 5 });
    const what = this.near(this.data[0][i]);
    setText($('say'), clock(this.data[0][i] * 1000) + (what ? ', ' + what : '') + ': ' + this.spec.lines.map((l, k) =>
      l.label + ' ' + this.spec.format(this.data[k + 1][i] ?? null).replace(unknown, 'not known')).join(', '));
  }
}
