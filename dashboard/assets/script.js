'use strict';
// Keeps the page up to date. Without it everything works but that.
(() => {
  const body = document.body, sign = document.getElementById('live'), page = body.dataset.page;
  const rows = new Map();
  for (const e of document.querySelectorAll('[data-id]')) rows.set(e.dataset.id, e);
  const key = 'taskmanager.times';
  let now = 0; // the server's time less the browser's, in ms
  let times = 'relative';
  try { times = localStorage.getItem(key) || times; } catch { /* it is not allowed to keep anything */ }

  // Times.
  const two = (n) => String(n).padStart(2, '0');
  function exact(d) {
    if (times === 'utc') return d.toISOString().replace('T', ' ').replace('Z', ' UTC');
    const zone = -d.getTimezoneOffset(), z = Math.abs(zone);
    return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}` +
      `.${String(d.getMilliseconds()).padStart(3, '0')} ${zone < 0 ? '-' : '+'}${two(Math.floor(z / 60))}:${two(z % 60)}`;
  }
  function units(n, large, l, small, s) {
    const rest = Math.floor((n % large) / small);
    return Math.floor(n / large) + l + (rest ? rest + s : '');
  }
  function duration(ms) {
    const s = Math.floor(Math.max(0, ms) / 1000);
    if (s < 60) return s + 's';
    if (s < 3600) return units(s, 60, 'm', 1, 's');
    if (s < 172800) return units(s, 3600, 'h', 60, 'm');
    return units(s, 86400, 'd', 3600, 'h');
  }
  function relative(kind, d) {
    const ms = Date.now() + now - d;
    if (kind === 'in') return ms < 0 ? 'in ' + duration(-ms + 999) : 'now';
    return kind === 'for' ? duration(ms) : duration(ms) + ' ago';
  }
  function set(e, text) { if (e.textContent !== text) e.textContent = text; }
  function showTime(e) {
    const d = new Date(e.dateTime), kind = e.dataset.kind;
    if (isNaN(d)) return;
    if (kind === 'exact') return set(e, exact(d));
    const isRelative = times === 'relative' || page === 'task' || kind === 'for';
    set(e, isRelative ? relative(kind, d) : exact(d));
    const title = isRelative ? exact(d) : relative(kind, d);
    if (e.title !== title) e.title = title;
  }
  function showTimes() { for (const e of document.getElementsByTagName('time')) showTime(e); }
  const choice = document.getElementById('times');
  choice.value = times;
  if (choice.selectedIndex < 0) choice.value = times = 'relative';
  choice.parentElement.hidden = false;
  choice.addEventListener('change', () => {
    times = choice.value;
    try { localStorage.setItem(key, times); } catch { /* likewise */ }
    showTimes();
  });
  showTimes();
  setInterval(() => { if (!document.hidden) showTimes(); }, 1000);

  // All of this page.
  const head = document.querySelector('thead .select');
  if (head) {
    const all = document.createElement('input');
    all.type = 'checkbox';
    all.setAttribute('aria-label', 'Select all on this page');
    head.append(all);
    const boxes = [...document.querySelectorAll('[name=select]')], text = document.getElementById('selected');
    const count = () => {
      const n = boxes.filter((b) => b.checked).length;
      text.textContent = n ? n + ' selected:' : 'Selected:';
      all.checked = n > 0 && n === boxes.length;
      all.indeterminate = n > 0 && n < boxes.length;
    };
    all.addEventListener('change', () => { for (const b of boxes) b.checked = all.checked; count(); });
    for (const b of boxes) b.addEventListener('change', count);
    count();
  }

  // What has changed.
  function showCell(td, c, column) {
    td.className = column + (c.class ? ' ' + c.class : '');
    if (column === 'failures' || column === 'runs') return set(td, c.text);
    const part = (tag, wanted) => {
      let e = td.querySelector(tag);
      if (!wanted) { if (e) e.remove(); return null; }
      if (!e) { e = document.createElement(tag); td.append(' ', e); }
      return e;
    };
    const text = part('bdi', c.text), note = part('small', c.note), time = part('time', c.time);
    if (text) {
      set(text, c.text);
      text.title = c.title || '';
      if (!c.title) text.removeAttribute('title');
    }
    if (note) set(note, c.note);
    if (time) {
      time.dateTime = c.time;
      time.dataset.kind = c.kind;
      showTime(time);
    }
  }
  const columns = [...document.querySelectorAll('#tasks thead th:not(.select)')].map((th) => th.className);
  function showRow(row) {
    const e = rows.get(row.id);
    if (!e) return;
    if (e.tagName !== 'TR') {
      if (e.closest('svg')) e.setAttribute('class', e.getAttribute('class').replace(/state-\w+/, 'state-' + row.state));
      return;
    }
    e.classList.toggle('gone', !!row.gone);
    if (row.gone) return;
    const cells = [...e.cells].slice(-columns.length), state = e.querySelector('.state'), before = state.textContent;
    e.className = row.class;
    row.cells.forEach((c, i) => { if (columns[i] !== 'name') showCell(cells[i], c, columns[i]); });
    if (told && before !== state.textContent) e.classList.add('changed');
  }
  function showTotals(totals) {
    for (const e of document.querySelectorAll('[data-total]')) {
      const n = totals[e.dataset.total];
      set(e, n.toLocaleString('en-US'));
      e.closest('li').classList.toggle('zero', n === 0);
    }
  }
  let fetching = false, again = false;
  function reload() { // the parts of the page of a task that have changed, as the server writes them
    if (fetching) { again = true; return; }
    fetching = true;
    const ask = new XMLHttpRequest(), url = new URL(location.href);
    url.searchParams.set('stack', '0');
    url.hash = '';
    ask.open('GET', url);
    ask.responseType = 'document';
    ask.onloadend = () => {
      fetching = false;
      if (ask.status === 200 && ask.response) {
        for (const e of document.querySelectorAll('[data-live]')) {
          const fresh = ask.response.getElementById(e.id);
          if (e.contains(document.activeElement) && e.id === 'actions') continue; // it has the focus
          if (!fresh || fresh.isEqualNode(e)) continue;
          const open = [...e.querySelectorAll('details')].map((d) => d.open), focus = e.contains(document.activeElement);
          const scroll = [...e.querySelectorAll('.scroll, pre')].map((s) => [s.scrollLeft, s.scrollTop]);
          if (focus || (!getSelection().isCollapsed && getSelection().containsNode(e, true))) continue; // somebody reads or copies it
          const n = document.adoptNode(fresh);
          e.replaceWith(n);
          const added = n.querySelectorAll('details').length - open.length;
          n.querySelectorAll('details').forEach((d, i) => { d.open = open[i - Math.max(0, added)] || false; });
          n.querySelectorAll('.scroll, pre').forEach((s, i) => { if (scroll[i]) [s.scrollLeft, s.scrollTop] = scroll[i]; });
        }
        showTimes();
      }
      if (again) { again = false; reload(); }
    };
    ask.send();
  }
  let told = false;
  function show(message) {
    if (message.instance !== body.dataset.instance) {
      stop('gone', 'Another process answers now: ');
      const a = document.createElement('a');
      a.href = location.href;
      a.textContent = 'reload';
      sign.append(a);
      return false;
    }
    now = new Date(message.at) - Date.now();
    if (message.totals) showTotals(message.totals);
    if (page === 'task' && told && message.rows) reload();
    for (const row of message.rows || []) showRow(row);
    told = true;
    if (message.end === 'manager') { stop('ended', 'The Manager was shut down'); return false; }
    return true;
  }

  // The connection: a stream, or, where there can't be one, a question every two seconds.
  let state = 'off', since = null, ended = false, abort = null, timer = 0;
  function say(next, text) {
    if (next === 'lost' && !since) since = new Date();
    if (next !== 'lost') since = null;
    state = next;
    sign.dataset.state = next;
    set(sign, text);
  }
  function stop(next, text) {
    ended = true;
    hangUp();
    say(next, text);
  }
  function hangUp() {
    clearTimeout(timer);
    if (abort) abort.abort();
    abort = null;
  }
  function lose() {
    if (ended || document.hidden) return;
    say('lost', `No answer since ${exact(since || new Date()).slice(11, 19)}. Has the process ended? Trying again`);
    timer = setTimeout(connect, 2000);
  }
  const address = 'live?rows=' + [...rows.keys()].join('');
  let streams = true;
  async function connect() {
    hangUp();
    if (ended || document.hidden) return;
    const mine = abort = new AbortController();
    let watch = 0;
    const expect = (ms) => { clearTimeout(watch); watch = setTimeout(() => mine.abort('silent'), ms); };
    try {
      expect(5000);
      const answer = await fetch(address + (streams ? '' : '&once=1'), { signal: mine.signal, cache: 'no-store' });
      if (!answer.ok) throw new Error(answer.status);
      if (!(answer.headers.get('Content-Type') || '').startsWith('text/event-stream')) {
        if (show(await answer.json())) {
          say('polling', 'live, every 2 s');
          timer = setTimeout(connect, 2000);
        }
        return;
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        expect(5000);
        const parts = (text + value).split('\n\n');
        text = parts.pop();
        for (const part of parts) {
          const message = JSON.parse(part.slice('data: '.length));
          if (!show(message)) return;
          if (message.end !== 'server') say('live', 'live');
        }
      }
      throw new Error('the stream has ended');
    } catch (e) {
      if (abort !== mine) return; // another one is under way, or none is wanted
      if (e === 'silent' && streams && state !== 'live') { // something on the way holds the stream back
        streams = false;
        timer = setTimeout(connect, 0);
        return;
      }
      lose();
    } finally {
      clearTimeout(watch);
    }
  }
  document.addEventListener('visibilitychange', () => { if (document.hidden) hangUp(); else connect(); });
  addEventListener('pagehide', hangUp);
  addEventListener('pageshow', (e) => { if (e.persisted) connect(); });
  if (['list', 'task', 'graph'].includes(page)) connect();
})();
