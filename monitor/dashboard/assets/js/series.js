// The points of one node, or of all: columns by name, as the charts want them. What
// is not known, and the time nobody looked, is null: a gap in the line.
const keepSeconds = 15 * 60;
const setBack = 5; // seconds that a clock has to go back to count as set

class Series {
  constructor(names) {
    this.names = names;
    this.t = [];
    this.cols = names.map(() => []);
  }

  // add takes a point; every is how far points are apart at most, in seconds.
  add(at, values, every) {
    const t = at / 1000, last = this.t[this.t.length - 1];
    if (last !== undefined) {
      if (t <= last - setBack) { // the server's clock was set back, and what is older stays older
        const back = last + every - t;
        this.t = this.t.map((x) => x - back);
        this.push(t, values);
        return;
      }
      if (t <= last) return;
      if (t - last > every * 2.5) this.push(last + every, this.names.map(() => null));
    }
    this.push(t, values);
    let old = 0;
    while (this.t[old] < t - keepSeconds - 5) old++;
    if (old > 200) {
      this.t.splice(0, old);
      for (const c of this.cols) c.splice(0, old);
    }
  }

  push(t, values) {
    this.t.push(t);
    this.cols.forEach((c, i) => c.push(values[i] ?? null));
  }

  // latest is the newest value; undefined if there is none.
  latest(name) {
    const c = this.cols[this.names.indexOf(name)];
    return c ? c[c.length - 1] : undefined;
  }

  // since has the columns asked for, from a time on, the times first.
  since(from, names) {
    let lo = 0, hi = this.t.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.t[mid] < from) lo = mid + 1; else hi = mid;
    }
    lo = Math.max(lo - 1, 0); // the line comes from outside
    return [this.t.slice(lo), ...names.map((n) => (this.cols[this.names.indexOf(n)] ?? []).slice(lo))];
  }
}
