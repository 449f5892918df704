// Alerts: those of now on top of the page, those that were in a table.
function drawAlerts(list) {
  const box = $('alerts');
  const key = JSON.stringify(list.map((a) => [a.name, a.node, a.text, a.holders]));
  box.hidden = list.length === 0;
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...list.map((a) => el('div', { class: 'alert ' + a.level },
      el('span', { class: 'level' }, a.level === 'critical' ? 'Critical' : 'Warning'),
      el('p', {}, a.text.replace(a.level + ' ', '')),
      el('span', { class: 'since' }, 'since ' + clock(a.since)),
      a.holders?.length ? el('ul', {}, ...a.holders.map((h) => el('li', {}, 'held by ' + h))) : null)));
  }
}

const alertTable = new Table({
  caption: 'Alerts: those that go on, and those that were over while somebody looked', empty: '', sort: 3, desc: true,
  columns: [
    { title: 'Level', get: (r) => r.level, show: (r) => r.level, tone: (r) => 'state ' + (r.end ? '' : 'bad') },
    { title: 'Alert', get: (r) => r.name, show: (r) => r.name },
    { title: 'Node', get: (r) => r.node ?? '', show: (r) => r.node ?? 'all', low: true },
    { title: 'Since', get: (r) => r.since, show: (r) => clock(r.since), num: true },
    { title: 'Over', get: (r) => r.end ?? Infinity, show: (r) => (r.end ? clock(r.end) : 'goes on'), num: true },
    { title: 'What', show: (r) => r.text, css: 'wrap' },
  ],
});
