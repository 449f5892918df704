// Numbers in few characters, and elements in few words.
const $ = (id) => document.getElementById(id);
const unknown = '–';

function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (k === 'class') e.className = v;
    else if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (v !== undefined && v !== null && v !== false) e.setAttribute(k, v === true ? '' : v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// setText changes the page only if there is something to change.
function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function num(v) {
  if (v === null || v === undefined) return unknown;
  const a = Math.abs(v);
  if (a >= 1e9) return trim(v / 1e9, 2) + ' G';
  if (a >= 1e6) return trim(v / 1e6, 2) + ' M';
  if (a >= 1e4) return trim(v / 1e3, 1) + ' k';
  if (a >= 100 || Number.isInteger(v)) return String(Math.round(v));
  return trim(v, a < 1 ? 2 : 1);
}

function many(n, what) { return num(n) + ' ' + what + (n === 1 ? '' : 's'); }

function trim(v, digits) { return String(Number(v.toFixed(digits))); }

// ms writes milliseconds.
function ms(v) {
  if (v === null || v === undefined) return unknown;
  if (v < 0.001) return '0';
  if (v < 1) return Math.round(v * 1000) + ' µs';
  if (v < 100) return trim(v, 1) + ' ms';
  if (v < 1000) return Math.round(v) + ' ms';
  return trim(v / 1000, 1) + ' s';
}

// span writes how long something has lasted.
function span(v) {
  if (v === null || v === undefined) return unknown;
  if (v < 1000) return Math.round(v) + ' ms';
  const s = v / 1000;
  if (s < 60) return s.toFixed(1) + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' m ' + pad(Math.floor(s % 60)) + ' s';
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + pad(Math.floor(s / 60 % 60)) + ' m';
  return Math.floor(s / 86400) + ' d ' + Math.floor(s / 3600 % 24) + ' h';
}

// duration writes how long something has lasted, in whole seconds.
function duration(v) { return v < 60000 ? Math.max(Math.floor(v / 1000), 0) + ' s' : span(v); }

function percent(v) { return v === null || v === undefined ? unknown : trim(v, v < 10 ? 1 : 0) + ' %'; }

function pad(n) { return String(n).padStart(2, '0'); }

function bytes(v) {
  if (v < 10000) return v + ' B';
  if (v < 1e7) return trim(v / 1e3, 0) + ' kB';
  if (v < 1e10) return trim(v / 1e6, 0) + ' MB';
  return trim(v / 1e9, 0) + ' GB';
}

// site leaves the last folder, the file and the line of a call site.
function site(s) { return s.split('/').slice(-2).join('/'); }

// serverNow is the time by the clock that all times on the page are of.
let skew = 0;
function serverNow() { return Date.now() + skew; }

function clock(t) { return new Date(t).toLocaleTimeString([], { hour12: false }); }

let toastTimer;
function toast(text) {
  $('toast').hidden = false;
  setText($('toast'), text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').hidden = true; }, 6000);
}
