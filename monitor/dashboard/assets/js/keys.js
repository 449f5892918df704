// The keyboard.
const keys = [
  ['p', 'Pause and go on', () => setPaused(!paused)],
  ['t', 'Theme: system, light, dark', () => changeTheme()],
  ['r', 'Time shown: 1, 5 or 15 minutes', () => setRange(range === 60 ? 300 : range === 300 ? 900 : 60)],
  ['n', 'Next node', () => nextScope()],
  ['/', 'Filter the rows', () => { $('tables').scrollIntoView({ block: 'nearest' }); $('filter').focus(); }],
  ['1', 'to 6: the tables', null],
  ['← →', 'in a chart: single points; in the tabs: the next table', null],
  ['Esc', 'Close what is open', null],
  ['?', 'This list', () => openHelp()],
];

function openHelp() { $('help').showModal(); }

function buildKeys() {
  $('keys').replaceChildren(...keys.flatMap(([k, text]) => [el('dt', {}, el('kbd', {}, k)), el('dd', {}, text)]));
  document.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, select, textarea, dialog')) return;
    const n = Number(e.key);
    const key = keys.find(([k, , fn]) => fn && k === e.key);
    if (key) key[2]();
    else if (n >= 1 && n <= tabList.length) { setTab(tabList[n - 1]); tab.button.focus(); }
    else return;
    e.preventDefault();
  });
}
