// Pools: one bar for each, the fullest first. A sum would hide that one of them is full.
const shownPools = 6;
const isBlocking = ' (blocking)';

// poolsOf lists the pools of the nodes that are shown, the fullest first. Those of a fleet are its
// instances': its nodes have only their sums.
function poolsOf(point, names, scope) {
  const plain = (node) => (node.endsWith(isBlocking) ? node.slice(0, -isBlocking.length) : node);
  const single = (point?.pools ?? []).filter(([, node]) => !scope || node === scope || plain(node) === scope);
  if (single.length) {
    return single.map(([name, node, kind, inUse, size, waiting], i) =>
      ({ key: 'instance ' + i, pool: name + ', ' + kind, node: plain(node), inUse, size, waiting, use: inUse / size }));
  }
  const at = Object.fromEntries(names.map((n, i) => [n, i]));
  const all = [];
  for (const [name, v] of Object.entries(point?.nodes ?? {})) {
    const blocking = name.endsWith(isBlocking);
    const node = plain(name);
    if (scope && name !== scope && node !== scope) continue;
    const add = (pool, inUse, size, waiting) => {
      if (v[at[inUse]] === null || !v[at[size]]) return;
      all.push({ key: pool + ' ' + name, pool, node, inUse: v[at[inUse]], size: v[at[size]], waiting: v[at[waiting]], use: v[at[inUse]] / v[at[size]] });
    };
    add(blocking ? 'blocking' : 'main', 'mainInUse', 'mainSize', 'mainWaiting');
    if (!blocking) add('pipeline', 'pipeInUse', 'pipeSize', 'pipeWaiting');
  }
  return all.sort((a, b) => b.use - a.use || b.waiting - a.waiting || order(a.pool, b.pool) || order(a.node, b.node));
}

const tone = (use) => (use >= 0.95 ? 'crit' : use >= 0.8 ? 'warn' : '');

const poolPanel = {
  list: el('ul', { class: 'pools' }),
  more: el('button', { type: 'button', class: 'link', hidden: true, onclick: () => { setTab(tabList.find((t) => t.id === 'nodes')); $('tables').scrollIntoView({ block: 'start' }); } }),
  rows: new Map(),
  none: el('p', { class: 'empty' }, 'No pool with a size is known.'),
};
poolPanel.box = el('section', { class: 'chart pool-panel', 'aria-labelledby': 'title-pools' },
  el('h2', { id: 'title-pools' }, 'Pools', el('small', {}, 'in use, the fullest first')), poolPanel.list, poolPanel.none, poolPanel.more);

function drawPools(pools, unlisted) {
  const manyNodes = new Set(pools.map((p) => p.node)).size > 1;
  const shown = pools.slice(0, shownPools);
  poolPanel.none.hidden = pools.length > 0;
  for (const [key, row] of poolPanel.rows) if (!shown.some((p) => p.key === key)) { row.box.remove(); poolPanel.rows.delete(key); }
  let at = poolPanel.list.firstChild;
  for (const p of shown) {
    let row = poolPanel.rows.get(p.key);
    if (!row) {
      row = { name: el('span', { class: 'name' }), node: el('span', { class: 'node' }), waiting: el('span', { class: 'waiting' }), value: el('b', {}), fill: el('div', { class: 'fill' }) };
      row.track = el('div', { class: 'track', role: 'meter', 'aria-valuemin': '0' }, row.fill);
      row.box = el('li', {}, el('p', {}, row.name, row.node, row.waiting, row.value), row.track);
      poolPanel.rows.set(p.key, row);
    }
    setText(row.name, p.pool);
    setText(row.node, manyNodes ? p.node : '');
    setText(row.waiting, p.waiting ? num(p.waiting) + ' waiting' : '');
    setText(row.value, num(p.inUse) + ' of ' + num(p.size));
    row.fill.style.width = Math.min(100, 100 * p.use) + '%';
    row.track.setAttribute('aria-label', p.pool + ' pool' + (manyNodes ? ' of ' + p.node : '') + ', connections in use');
    row.track.setAttribute('aria-valuemax', p.size);
    row.track.setAttribute('aria-valuenow', Math.min(p.inUse, p.size));
    row.box.className = tone(p.use);
    if (row.box === at) at = at.nextSibling; else poolPanel.list.insertBefore(row.box, at);
  }
  const rest = pools.slice(shownPools);
  poolPanel.more.hidden = rest.length === 0;
  if (rest.length) setText(poolPanel.more, many(rest.length + unlisted, 'more pool') + ', ' + Math.round(100 * rest[0].use) + ' % or less in use');
}
