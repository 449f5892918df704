// Dark and light: as the system has it, unless somebody chose. It runs before the
// page is drawn.
const themes = ['system', 'light', 'dark'];

function store(key, value) {
  try {
    if (value === undefined) return localStorage.getItem('lifeguard.' + key);
    localStorage.setItem('lifeguard.' + key, value);
  } catch { /* storage is switched off: nothing is remembered */ }
  return null;
}

let theme = themes.includes(store('theme')) ? store('theme') : 'system';

function applyTheme() {
  if (theme === 'system') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.setAttribute('data-theme', theme);
}
applyTheme();

function nextTheme() {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  store('theme', theme);
  applyTheme();
}
