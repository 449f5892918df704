// The tables, each behind a tab. Only the one that is seen is asked for.
const state = (s) => ({ subscribed: 'subscribed', handshake: 'handshake' }[s] ?? s);

function leaseButton(tr) {
  return el('button', { type: 'button', class: 'link', onclick: () => (tr.row.members ? leaseTable.toggle(tr.row) : openStack(tr.row)) });
}

// leaseGroup is the row of all leases of one call site.
function leaseGroup(rows) {
  const words = (of) => { const all = [...new Set(rows.map(of).filter(Boolean))]; return all.slice(0, 2).join(', ') + (all.length > 2 ? ' and ' + (all.length - 2) + ' more' : ''); };
  return { n: rows.length, site: rows[0].site, label: words((r) => r.label), held: Math.max(...rows.map((r) => r.held)), command: words((r) => r.command),
    node: words((r) => r.node), reported: rows.filter((r) => r.reported).length, busy: rows.filter((r) => r.busy).length };
}

function leaseState(r) {
  if (!r.members) return r.reported ? 'overdue' : r.busy ? 'in flight' : 'between commands';
  return [r.reported ? num(r.reported) + ' overdue' : '', r.busy ? num(r.busy) + ' in flight' : ''].filter(Boolean).join(', ') || 'between commands';
}

function drawLeaseSite(e, r) {
  setText(e, r.members ? (r.open ? '▾ ' : '▸ ') + num(r.n) + ' × ' + (site(r.site) || 'leases') : site(r.site) || 'lease ' + r.id);
  if (e.title !== r.site) e.title = r.site;
  if (r.members) e.setAttribute('aria-expanded', String(r.open)); else e.removeAttribute('aria-expanded');
}

const leaseTable = new Table({
  caption: 'Leases: connections that callers hold by Acquire', empty: 'No lease is held.', sort: 2, desc: true,
  group: { key: (r) => r.site || r.key, make: leaseGroup, what: 'lease' },
  columns: [
    { title: 'Taken at', get: (r) => r.site, css: 'site', node: leaseButton, update: drawLeaseSite },
    { title: 'Label', get: (r) => r.label, show: (r) => r.label, css: 'text', low: true },
    { title: 'Held for', get: (r) => r.held, show: (r) => (r.members ? 'oldest ' : '') + span(r.held), num: true },
    { title: 'State', get: (r) => (r.reported ? 2 : 0) + (r.busy ? 1 : 0), show: leaseState,
      tone: (r) => 'state ' + (r.reported ? 'bad' : r.busy ? 'run' : 'leased') },
    { title: 'Last command', get: (r) => r.command, show: (r) => r.command, low: true },
    { title: 'Connection', get: (r) => r.conn, show: (r) => (r.members ? '\u00a0' : String(r.conn)), num: true, low: true },
    { title: 'Node', get: (r) => r.node, show: (r) => r.node, low: true },
  ],
});

const busyTable = new Table({
  caption: 'Commands in flight: connections that wait for a reply', empty: 'No command is in flight.', sort: 2, desc: true,
  columns: [
    { title: 'Command', get: (r) => r.command, show: (r) => r.command },
    { title: 'State', get: (r) => r.state, show: (r) => state(r.state), tone: (r) => 'state ' + r.state },
    { title: 'No reply for', get: (r) => r.idle, show: (r) => span(r.idle), num: true },
    { title: 'Connection', get: (r) => r.key, show: (r) => String(r.key), num: true },
    { title: 'Pool', get: (r) => r.pool, show: (r) => r.pool, low: true },
    { title: 'Node', get: (r) => r.node, show: (r) => r.node, low: true },
  ],
});

const connTable = new Table({
  caption: 'Connections: every open one', empty: 'No connection is open.', sort: 0,
  columns: [
    { title: 'Connection', get: (r) => r.key, show: (r) => String(r.key) },
    { title: 'State', get: (r) => r.state, show: (r) => state(r.state) + (r.closing ? ', closing: ' + r.closing : ''),
      tone: (r) => 'state ' + (r.closing ? 'bad' : r.state) },
    { title: 'Pool', get: (r) => r.pool, show: (r) => r.pool, low: true },
    { title: 'Age', get: (r) => r.age, show: (r) => span(r.age), num: true },
    { title: 'Idle', get: (r) => r.idle, show: (r) => span(r.idle), num: true },
    { title: 'In', get: (r) => r.in, show: (r) => bytes(r.in), num: true, low: true },
    { title: 'Out', get: (r) => r.out, show: (r) => bytes(r.out), num: true, low: true },
    { title: 'Last command', get: (r) => r.command, show: (r) => r.command },
    { title: 'Own address', get: (r) => r.local, show: (r) => r.local + (r.tls ? ' (TLS)' : ''), low: true },
    { title: 'Node', get: (r) => r.node, show: (r) => r.node, low: true },
  ],
});

const ofSize = (inUse, size) => num(inUse) + (size ? ' of ' + num(size) : '');

const nodeTable = new Table({
  caption: 'Nodes: the servers this client talks to', empty: 'No node is known.', sort: 1, desc: true,
  columns: [
    { title: 'Node', get: (r) => r.key, node: (tr) => el('button', { type: 'button', class: 'link', onclick: () => setScope(tr.row.key) }), update: (e, r) => setText(e, r.key) },
    { title: 'Pool use', get: (r) => r.use ?? -1, show: (r) => percent(r.use), num: true },
    { title: 'Main', get: (r) => r.mainInUse ?? -1, show: (r) => ofSize(r.mainInUse, r.mainSize), num: true, low: true },
    { title: 'Pipeline', get: (r) => r.pipeInUse ?? -1, show: (r) => ofSize(r.pipeInUse, r.pipeSize), num: true, low: true },
    { title: 'Idle', get: (r) => r.idle ?? -1, show: (r) => num(r.idle), num: true },
    { title: 'Waiting', get: (r) => r.waiting ?? -1, show: (r) => num(r.waiting), num: true },
    { title: 'Peak', get: (r) => r.peak ?? -1, show: (r) => num(r.peak), num: true, low: true },
    { title: 'Leases', get: (r) => r.leases ?? -1, show: (r) => num(r.leases), num: true, low: true },
    { title: 'Commands/s', get: (r) => r.commands ?? -1, show: (r) => num(r.commands), num: true },
    { title: 'p99', get: (r) => r.commandP99 ?? -1, show: (r) => ms(r.commandP99), num: true },
    { title: 'Failed dials/s', get: (r) => r.dialErrors ?? -1, show: (r) => num(r.dialErrors), num: true, low: true },
    { title: 'Breaker', get: (r) => r.breakers ?? -1, show: (r) => (r.breakers === null ? unknown : r.breakers ? 'open' : 'closed'), low: true,
      tone: (r) => (r.breakers ? 'state bad' : '') },
  ],
});

const reasonColumns = (what) => [
  { title: what, get: (r) => r.key, show: (r) => r.key },
  { title: 'Count', get: (r) => r.n, show: (r) => num(r.n), num: true },
];
const closedTable = new Table({ caption: 'Connections closed, by reason', empty: 'None yet.', sort: 1, desc: true, columns: reasonColumns('Reason') });
const retryTable = new Table({ caption: 'Commands sent again, by reason', empty: 'None yet.', sort: 1, desc: true, columns: reasonColumns('Reason') });
const countTable = new Table({ caption: 'Since the client was made', empty: '', sort: -1, columns: reasonColumns('What') });
const countNames = { command: 'Commands and pipelines', hits: 'Idle connection found', misses: 'No idle connection', waits: 'Waits for a connection',
  pool_timeouts: 'Pool timeouts', dialed: 'Connections opened', dial_errors: 'Failed dials', unknown_outcomes: 'Unknown outcomes', leaks: 'Leaks',
  budget_refusals: 'Retries refused by the budget', breaker_opened: 'Breakers opened', breaker_refusals: 'Calls refused by a breaker' };

const tabList = [
  { id: 'leases', title: 'Leases', want: 'leases', boxes: [leaseTable] },
  { id: 'busy', title: 'In flight', want: 'busy', boxes: [busyTable] },
  { id: 'conns', title: 'Connections', want: 'conns', boxes: [connTable] },
  { id: 'nodes', title: 'Nodes', want: '', boxes: [nodeTable] },
  { id: 'alerts', title: 'Alerts and events', want: '', boxes: [alertTable, eventTable] },
  { id: 'totals', title: 'Totals', want: '', boxes: [countTable, closedTable, retryTable], grid: true },
];
let tab = tabList.find((t) => t.id === store('tab')) ?? tabList[0];

function buildTabs() {
  for (const t of tabList) {
    t.count = el('span', { class: 'count', hidden: true });
    t.button = el('button', { type: 'button', role: 'tab', id: 'tab-' + t.id, 'aria-controls': 'panel-' + t.id, onclick: () => setTab(t) }, t.title, t.count);
    t.panel = el('div', { role: 'tabpanel', id: 'panel-' + t.id, 'aria-labelledby': 'tab-' + t.id, class: t.grid ? 'totals' : '' }, ...t.boxes.map((b) => b.box));
    $('tabs').append(t.button);
    $('panels').append(t.panel);
  }
  $('tabs').addEventListener('keydown', (e) => {
    const i = tabList.indexOf(tab), n = tabList.length;
    const to = { ArrowLeft: (i + n - 1) % n, ArrowRight: (i + 1) % n, Home: 0, End: n - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    setTab(tabList[to]);
    tab.button.focus();
  });
  $('filter').addEventListener('input', (e) => tab.boxes.forEach((b) => b.setFilter(e.target.value)));
  $('filter').addEventListener('keydown', (e) => { if (e.key === 'Escape' && !e.target.value) e.target.blur(); });
  setTab(tab);
}

function setTab(to) {
  tab = to;
  store('tab', to.id);
  for (const t of tabList) {
    t.button.setAttribute('aria-selected', String(t === to));
    t.button.tabIndex = t === to ? 0 : -1;
    t.panel.hidden = t !== to;
  }
  $('filter').value = to.boxes[0].filter;
  $('filter-field').hidden = !!to.grid;
  const bar = $('tabs'), left = to.button.offsetLeft - bar.offsetLeft; // scrolls the bar, never the page
  bar.scrollLeft = Math.min(Math.max(bar.scrollLeft, left + to.button.offsetWidth - bar.clientWidth), left);
  tablesWanted();
}

function setCount(id, n) {
  const c = tabList.find((t) => t.id === id).count;
  c.hidden = n === null || n === undefined;
  setText(c, num(n));
}

// Rows come as arrays, with words as numbers.
function leaseRows({ rows, words: w }) {
  return rows.map(([id, node, conn, where, label, command, held, busy, reported, stack]) => {
    const r = { key: id, id, node: w[node], conn, site: w[where], label: w[label], command: w[command], held, busy, reported, stack };
    r.text = [r.site, r.label, r.command, r.node, reported ? 'overdue' : '', busy ? 'in flight' : ''].join(' ');
    return r;
  });
}

function connRows({ rows, words: w }) {
  return rows.map(([id, node, local, pool, st, command, age, idle, bytesIn, out, closing, tls]) => {
    const r = { key: id, node: w[node], local, pool: w[pool], state: w[st], command: w[command], age, idle, in: bytesIn, out, closing: w[closing], tls };
    r.text = [id, r.node, local, r.pool, r.state, r.command, r.closing, tls ? 'tls' : ''].join(' ');
    return r;
  });
}

function reasonRows(map) {
  return Object.entries(map ?? {}).map(([key, n]) => ({ key, n, text: key }));
}

function countRows(map) {
  return Object.keys(countNames).map((key) => ({ key: countNames[key], n: map[key] ?? null, text: key }));
}

async function openStack(row) {
  setText($('stack-title'), site(row.site) || 'Lease ' + row.id);
  setText($('stack-facts'), ['Lease ' + row.id, row.label, 'connection ' + row.conn, row.node, 'held for ' + span(row.held)].filter(Boolean).join(' · '));
  setText($('stack-text'), 'Loading');
  $('stack').showModal();
  try {
    const answer = await fetch('?get=stack&lease=' + row.id);
    setText($('stack-text'), answer.ok ? (await answer.json()).stack || 'No stack is kept: see managed.WithLeaseStacks.' :
      answer.status === 404 ? 'This lease has been given back.' : 'The server says: ' + await answer.text());
  } catch {
    setText($('stack-text'), 'The server does not answer.');
  }
}
