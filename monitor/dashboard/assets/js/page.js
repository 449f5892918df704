// The page: what is shown, and what changes it.
let paused = false, range = 300, scope = '', names = [], every = 1, gap = 1, newest = 0, last = null, seenTables = false, dirty = false, totals = {};
let series = new Map(); // by node, '' has all
const charts = chartSpecs.map((s) => new Chart(s));

const tileSpecs = [
  { title: 'Fullest pool', fill: (v, fullest) => (!fullest ? { big: num(v('inUse')), sub: v('inUse') === null ? '' : v('inUse') === 1 ? 'connection in use' : 'connections in use' } :
    { big: num(fullest.inUse), small: 'of ' + num(fullest.size), sub: [Math.round(100 * fullest.use) + ' %', fullest.pool, scope || !fullest.many ? '' : fullest.node].filter(Boolean).join(' · '),
      tone: tone(fullest.use) }) },
  { title: 'Waiting for a connection', fill: (v) => ({ big: num(v('waiting')), sub: v('waitP99') !== null ? 'p99 ' + ms(v('waitP99')) : totals.waits === 0 ? 'none yet' : totals.waits && !v('waiting') ? 'none now' : '',
    tone: v('waiting') > 0 ? 'warn' : '' }) },
  { title: 'Commands', fill: (v) => ({ big: num(v('commands')), small: v('commands') === null ? '' : '/s', sub: v('refused') > 0 ? num(v('refused')) + '/s refused, breaker open' : scope || !totals.command ? '' : num(totals.command) + ' in all',
    tone: v('refused') > 0 ? 'warn' : '' }) },
  { title: 'Command time, p99', fill: (v) => ({ big: ms(v('commandP99')), sub: v('commandP50') === null ? '' : 'p50 ' + ms(v('commandP50')) }) },
  { title: 'Leases', fill: (v) => ({ big: num(v('leases')), sub: v('overdue') === null ? '' : v('overdue') === 0 ? 'none overdue' : num(v('overdue')) + ' overdue',
    tone: v('overdue') > 0 ? 'warn' : '' }) },
  { title: 'Retries', fill: (v) => ({ big: num(v('retries')), small: v('retries') === null ? '' : '/s',
    sub: scope || v('outcomes') === null ? '' : totals.retries === 0 && totals.unknown_outcomes !== undefined && !totals.unknown_outcomes ? 'none yet' : many(totals.unknown_outcomes ?? 0, 'unknown outcome'), tone: v('outcomes') > 0 ? 'warn' : '' }) },
];

function buildTiles() {
  for (const t of tileSpecs) {
    t.number = document.createTextNode(unknown);
    t.small = el('small', {});
    t.sub = el('p', { class: 'sub' });
    t.box = el('div', { class: 'tile' }, el('h2', {}, t.title), el('p', { class: 'big' }, t.number, ' ', t.small), t.sub);
    $('tiles').append(t.box);
  }
}

function drawTiles() {
  const s = series.get(scope);
  const v = (name) => s?.latest(name) ?? null;
  const pools = poolsOf(last, names, scope);
  drawPools(pools, scope ? 0 : last?.morePools ?? 0);
  const fullest = pools[0] && { ...pools[0], many: new Set(pools.map((p) => p.node)).size > 1 };
  for (const t of tileSpecs) {
    const { big, small = '', sub = '', tone = '' } = t.fill(v, fullest);
    if (t.number.data !== big) t.number.data = big;
    setText(t.small, small);
    setText(t.sub, sub);
    if (t.box.className !== 'tile ' + tone) t.box.className = 'tile ' + tone;
  }
  setCount('leases', v('leases'));
  setCount('conns', v('open'));
  if (last) setCount('nodes', Object.keys(last.nodes).length);
}

function drawCharts() {
  const s = series.get(scope) ?? new Series(names);
  for (const c of charts) c.draw(s, range, newest / 1000 || Date.now() / 1000);
}

function drawNodes() {
  if (!last) return;
  nodeTable.setRows(Object.entries(last.nodes).map(([key, values]) => {
    const r = { key, text: key };
    names.forEach((n, i) => { r[n] = values[i]; });
    return r;
  }));
}

// draw does at most one drawing per frame of the screen.
function draw() {
  if (dirty || paused || document.hidden) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    if (paused) return;
    drawTiles();
    drawCharts();
    if (tab.id === 'nodes') drawNodes();
  });
}

function seriesOf(node) {
  let s = series.get(node);
  if (!s) series.set(node, s = new Series(names));
  return s;
}

const stream = new Stream({
  status: (state) => setStatus(state),
  hello: (h) => {
    every = h.every / 1000;
    gap = Math.max(every, h.period / 1000, 1); // so far apart points may be
    if (h.names.join() !== names.join()) { names = h.names; series = new Map(); }
    if (h.past.length && h.past[h.past.length - 1][0] < newest - 1000 * setBack) { series = new Map(); marks = []; } // it comes whole
    for (const [t, values] of h.past) { seriesOf('').add(t, values, gap); newest = t; }
    addMarks(h.marks ?? []);
    draw();
  },
  marks: (list) => { addMarks(list); draw(); },
  point: (p) => {
    last = p;
    if (p.t < newest - 1000 * setBack) for (const m of marks) m.t -= newest - p.t;
    newest = p.t;
    skew = p.t - Date.now();
    seriesOf('').add(p.t, p.all, gap);
    for (const [node, values] of Object.entries(p.nodes)) seriesOf(node).add(p.t, values, every);
    offerNodes(Object.keys(p.nodes));
    draw();
  },
  summary: (s) => { if (!paused) drawSummary(s); },
  leases: (t) => { if (!paused) leaseTable.setRows(leaseRows(t), t.known, t.failed); },
  busy: (t) => { if (!paused) { busyTable.setRows(connRows(t), t.known, t.failed); setCount('busy', t.known ? t.rows.length : null); } },
  conns: (t) => { if (!paused) connTable.setRows(connRows(t), t.known, t.failed); },
});

function drawSummary(s) {
  totals = { ...s.counts, retries: s.retries && Object.values(s.retries).reduce((a, b) => a + b, 0) };
  drawAlerts(s.alerts);
  const alertRow = (a) => ({ ...a, key: a.name + ' ' + (a.node ?? '') + ' ' + a.since, what: a.text, text: [a.title, a.name, a.node, a.text].join(' ') });
  alertTable.empty = s.watching ? 'Alerts: none yet.' : 'Nobody looks for alerts: the Monitor was closed.';
  alertTable.setRows([...s.alerts, ...s.over].map(alertRow));
  setCount('alerts', s.alerts.length || null);
  closedTable.setRows(reasonRows(s.closed), s.closed !== null, 'Not known here.');
  retryTable.setRows(reasonRows(s.retries), s.retries !== null, 'Not known here.');
  countTable.setRows(countRows(s.counts));
  note('advice', s.advice);
  note('dial-error', s.dialError ? clock(s.dialError.time) + (s.dialError.node ? ', ' + s.dialError.node : '') + ': ' + s.dialError.err : '');
  const gaps = s.gaps ?? [];
  $('gaps').hidden = gaps.length === 0;
  const list = $('gaps').querySelector('ul');
  if (list.dataset.key !== gaps.join('\n')) {
    list.dataset.key = gaps.join('\n');
    list.replaceChildren(...gaps.map((g) => el('li', {}, g)));
  }
}

function note(id, text) {
  $(id).hidden = !text;
  setText($(id).querySelector('p'), text);
}

let streamState = 'wait', lostAt = 0;
function setStatus(to) {
  streamState = to;
  const shown = to === 'lost' ? 'lost' : paused ? 'paused' : to;
  if (to === 'lost' && !lostAt) lostAt = serverNow();
  if (to === 'live') lostAt = 0;
  $('status').dataset.state = document.body.dataset.state = shown;
  setText($('status-text'), { wait: 'Connecting', live: 'Live', paused: 'Paused', lost: 'No connection since ' + clock(lostAt) + ', trying again' }[shown]);
}

function setPaused(to) {
  paused = to;
  $('pause').setAttribute('aria-pressed', String(to));
  setText($('pause'), to ? 'Go on' : 'Pause');
  setStatus(streamState);
  tablesWanted();
  draw();
}

function setRange(to) {
  range = to;
  store('range', String(to));
  for (const b of document.querySelectorAll('[data-range]')) b.setAttribute('aria-pressed', String(Number(b.dataset.range) === to));
  drawCharts();
}

function setScope(node) {
  scope = node;
  $('scope').value = node;
  drawTiles();
  drawCharts();
}

function nextScope() {
  const all = [...$('scope').options].map((o) => o.value);
  setScope(all[(all.indexOf(scope) + 1) % all.length]);
}

function offerNodes(nodes) {
  const select = $('scope');
  nodes.sort();
  if (select.dataset.nodes === nodes.join('\n')) return;
  select.dataset.nodes = nodes.join('\n');
  select.replaceChildren(select.options[0], ...nodes.map((n) => el('option', { value: n }, n)));
  $('scope-field').hidden = nodes.length < 2;
  for (const n of [...series.keys()]) if (n && !nodes.includes(n)) series.delete(n);
  if (scope && !nodes.includes(scope)) setScope('');
  else select.value = scope;
}

// tablesWanted asks for the table that is seen.
function tablesWanted() {
  stream.tables(seenTables && !paused ? tab.want : '');
  if (tab.id === 'nodes') drawNodes();
}

function changeTheme() {
  nextTheme();
  recolor();
}

function nameTheme() {
  setText($('theme-name'), theme);
  $('theme').setAttribute('aria-label', 'Theme: ' + theme);
}

function recolor() {
  nameTheme();
  for (const c of charts) if (c.plot) { c.build(); }
}

function buildActions() {
  const words = {
    'evict-idle': ['Close idle connections?', 'Idle connections are closed now. What is in use goes on; the next commands open new ones.', 'Close them'],
    reset: ['Reset all connections?', 'Idle connections are closed now, the others when they are given back. Nothing in flight is cut.', 'Reset'],
  };
  for (const b of document.querySelectorAll('[data-do]')) {
    b.addEventListener('click', () => {
      const [title, text, yes] = words[b.dataset.do];
      setText($('confirm-title'), title);
      setText($('confirm-text'), text);
      setText($('confirm-yes'), yes);
      $('confirm').returnValue = '';
      $('confirm').onclose = () => { if ($('confirm').returnValue === 'yes') act(b.dataset.do); };
      $('confirm').showModal();
    });
  }
}

async function act(what) {
  try {
    const answer = await fetch('?do=' + what, { method: 'POST' });
    if (!answer.ok) { toast('Refused: ' + (await answer.text()).trim()); return; }
    const { closed } = await answer.json();
    toast(many(closed, 'connection') + ' closed.');
  } catch {
    toast('The server does not answer.');
  }
}

document.addEventListener('DOMContentLoaded', () => {
  buildTiles();
  $('charts').append(poolPanel.box, ...charts.map((c) => c.box));
  buildTabs();
  buildKeys();
  buildActions();
  $('pause').addEventListener('click', () => setPaused(!paused));
  $('theme').addEventListener('click', changeTheme);
  nameTheme();
  $('help-button').addEventListener('click', openHelp);
  $('scope').addEventListener('change', (e) => setScope(e.target.value));
  $('stack-copy').addEventListener('click', async () => {
    try { await navigator.clipboard.writeText($('stack-text').textContent); toast('Copied.'); } catch { toast('The browser does not allow it.'); }
  });
  for (const b of document.querySelectorAll('[data-range]')) b.addEventListener('click', () => setRange(Number(b.dataset.range)));
  setInterval(drawDurations, 1000);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolor);
  document.addEventListener('visibilitychange', draw);
  setInterval(() => { if (!paused && !document.hidden) for (const c of charts) c.describe(); }, 5000);
  const kept = Number(store('range'));
  setRange([60, 300, 900].includes(kept) ? kept : 300);
  new IntersectionObserver((seen) => {
    seenTables = seen[seen.length - 1].isIntersecting;
    tablesWanted();
  }).observe($('tables'));
  stream.open();
});
