'use strict';
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Sorting: the text of a header becomes a button; rows without a figure stay last both ways.
  const value = (row, column, number) => {
    const cell = row.cells[column];
    const text = cell ? cell.textContent.trim() : '';
    if (!number) return text;
    const found = parseFloat(text);
    return Number.isNaN(found) ? null : found;
  };
  const words = new Intl.Collator('en', { numeric: true });
  const sort = (table, header) => {
    const up = header.getAttribute('aria-sort') !== 'ascending';
    const column = header.cellIndex;
    const number = header.classList.contains('n');
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: value(row, column, number) }));
    rows.sort((a, b) => {
      if (a.key === b.key) return 0;
      if (a.key === null || a.key === '') return 1;
      if (b.key === null || b.key === '') return -1;
      const order = number ? a.key - b.key : words.compare(a.key, b.key);
      return up ? order : -order;
    });
    body.append(...rows.map(({ row }) => row));
  };
  for (const table of all('table.sortable')) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = header.textContent;
      button.addEventListener('click', () => sort(table, header));
      header.replaceChildren(button);
    }
  }

  // Filtering: all tables of cells together. Their first two columns are model and engine.
  const form = document.getElementById('filters');
  if (form) {
    const rows = all('table.filtered > tbody > tr').map((row) => ({ row, text: row.textContent.toLowerCase() }));
    const count = document.getElementById('filter-count');
    const chosen = (name) => (document.getElementById('filter-' + name) || { value: '' }).value;
    const filter = () => {
      const [text, status, engine, model] = ['text', 'status', 'engine', 'model'].map(chosen);
      const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      let cells = 0;
      for (const { row, text: own } of rows) {
        const fits = parts.every((part) => own.includes(part))
          && (!status || row.dataset.status === status)
          && (!model || row.cells[0].textContent === model)
          && (!engine || row.cells[1].textContent === engine);
        row.hidden = !fits;
        if (row.closest('table').id === 'cells-table') {
          cells += 1;
          shown += fits ? 1 : 0;
        }
      }
      count.textContent = shown === cells ? cells + ' cells' : shown + ' of ' + cells + ' cells';
    };
    form.hidden = false;
    form.addEventListener('input', filter);
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('reset', () => setTimeout(filter));
    filter();
  }

  // Charts: a point's or bar's numbers beside it on hover, focus and click; a click keeps them until Escape or another point.
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  tip.setAttribute('aria-hidden', 'true');
  document.body.append(tip);
  let pinned = null;
  const hide = () => {
    tip.hidden = true;
    if (pinned) pinned.classList.remove('pinned');
    pinned = null;
  };
  const show = (dot) => {
    tip.textContent = dot.getAttribute('aria-label');
    tip.hidden = false;
    const at = dot.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left + at.width / 2 - own.width / 2, room - own.width - 8));
    const above = at.top - own.height - 8;
    tip.style.left = left + window.scrollX + 'px';
    tip.style.top = (above < 4 ? at.bottom + 8 : above) + window.scrollY + 'px';
  };
  for (const dots of all('g.dots')) {
    const list = [...dots.children];
    // The page's own hint takes the place of the browser's, which is for pages without scripts.
    for (const title of all('title', dots)) title.remove();
    const go = (from, to) => {
      from.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    };
    list.forEach((dot, index) => {
      dot.addEventListener('pointerenter', () => pinned || show(dot));
      dot.addEventListener('pointerleave', () => pinned || document.activeElement === dot || hide());
      dot.addEventListener('focus', () => {
        if (pinned !== dot) hide();
        show(dot);
      });
      dot.addEventListener('blur', hide);
      dot.addEventListener('click', () => {
        hide();
        const current = list.find((other) => other.tabIndex === 0);
        go(current || dot, dot);
        pinned = dot;
        dot.classList.add('pinned');
        show(dot);
      });
      dot.addEventListener('keydown', (event) => {
        const last = list.length - 1;
        const to = {
          ArrowRight: Math.min(index + 1, last), ArrowDown: Math.min(index + 1, last),
          ArrowLeft: Math.max(index - 1, 0), ArrowUp: Math.max(index - 1, 0),
          Home: 0, End: last,
        }[event.key];
        if (event.key === 'Escape') hide();
        else if (event.key === 'Enter' || event.key === ' ') dot.dispatchEvent(new Event('click'));
        else if (to === undefined) return;
        else go(dot, list[to]);
        event.preventDefault();
      });
    });
  }
  window.addEventListener('resize', () => {
    const dot = pinned || document.activeElement;
    if (!tip.hidden && dot.matches('.dots > *')) show(dot);
    else hide();
  });

  // On paper everything is open.
  let opened = [];
  window.addEventListener('beforeprint', () => {
    opened = all('details:not([open])');
    for (const part of opened) part.open = true;
  });
  window.addEventListener('afterprint', () => {
    for (const part of opened) part.open = false;
  });
})();
