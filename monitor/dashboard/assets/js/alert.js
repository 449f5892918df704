// Alerts: those of now on top of the page, those that were in a table; and what else
// happened, which the charts have as marks.
let alertsNow = [];

function drawAlerts(list) {
  alertsNow = list;
  const box = $('alerts');
  const key = JSON.stringify(list.map((a) => [a.name, a.node, a.text, a.holders]));
  box.hidden = list.length === 0;
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...list.map((a) => el('article', { class: 'alert ' + a.level },
      el('p', { class: 'level' }, a.level === 'critical' ? 'Critical' : 'Warning'),
      el('h2', {}, a.title, a.node ? el('small', {}, a.node) : null),
      el('p', { class: 'since' }, el('span', {}), ' · ', el('a', { href: a.runbook, target: '_blank', rel: 'noopener noreferrer' }, 'Runbook')),
      el('p', { class: 'text' }, a.text),
      a.holders?.length ? el('ul', {}, ...a.holders.map((h) => el('li', {}, 'held by ' + h))) : null)));
  }
  drawDurations();
}

// drawDurations says for how long the alerts have lasted, by the server's clock.
function drawDurations() {
  if (paused || streamState === 'lost') return;
  const boxes = $('alerts').querySelectorAll('.since span');
  alertsNow.forEach((a, i) => { if (boxes[i]) setText(boxes[i], 'for ' + duration(serverNow() - a.since) + ', since ' + clock(a.since)); });
}

const alertTable = new Table({
  caption: 'Alerts: those that go on, and the last ones that are over', empty: 'Alerts: none yet.', sort: 3, desc: true,
  columns: [
    { title: 'Level', get: (r) => r.level, show: (r) => r.level, tone: (r) => 'state ' + (r.end ? '' : 'bad') },
    { title: 'Alert', get: (r) => r.title, show: (r) => r.title },
    { title: 'Node', get: (r) => r.node ?? '', show: (r) => r.node ?? 'all', low: true },
    { title: 'Since', get: (r) => r.since, show: (r) => clock(r.since), num: true },
    { title: 'Over', get: (r) => r.end ?? Infinity, show: (r) => (r.end ? clock(r.end) : 'goes on'), num: true },
    { title: 'Duration', get: (r) => (r.end ?? Infinity) - r.since, show: (r) => duration((r.end ?? serverNow()) - r.since), num: true, low: true },
    { title: 'What', show: (r) => r.what, css: 'wrap' },
  ],
});

const eventTable = new Table({
  caption: 'Events: what the charts have as marks', empty: 'Events: none yet.', sort: 0, desc: true,
  columns: [
    { title: 'Time', get: (r) => r.t, show: (r) => clock(r.t), css: 'short' },
    { title: 'What', get: (r) => r.text, show: (r) => r.text, css: 'wrap', tone: (r) => 'state ' + { bad: 'bad', good: 'good', note: '' }[r.kind] },
  ],
});

// marks are what happened, the oldest first.
const maxMarks = 200;
let marks = [];

function addMarks(list) {
  for (const m of list) if (!marks.some((x) => x.t === m.t && x.text === m.text)) marks.push(m);
  marks = marks.slice(-maxMarks);
  eventTable.setRows(marks.map((m) => ({ ...m, key: m.t + m.text })));
}
