"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("figure[data-chart]")];

  // Colours are names of CSS variables, so that figures follow the scheme of the page.
  const resolve = (value, key, style) => {
    if (typeof value === "string") {
      const name = /color/i.test(key) && value.match(/^var\((--[a-z]+)\)$/);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, key, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, resolve(item, name, style)]),
    );
  };

  const draw = (figure) => {
    const style = getComputedStyle(document.documentElement);
    const pressed = figure.querySelector('.chooser [aria-pressed="true"]');
    const variants = charts[figure.dataset.chart];
    const chosen = variants[pressed ? pressed.textContent : Object.keys(variants)[0]];
    const { data, layout } = resolve(chosen, "", style);
    layout.font.family = getComputedStyle(document.body).fontFamily;
    // On a touch screen a drag scrolls the page; with a mouse it zooms the figure.
    layout.dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;
    return Plotly.react(figure.querySelector(".chart"), data, layout, {
      displayModeBar: false,
      responsive: true,
    });
  };
  const drawAll = () => places.forEach(draw);

  for (const figure of places) {
    const buttons = [...figure.querySelectorAll(".chooser button")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        draw(figure);
      });
    }
  }
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // On paper everything is light and unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    folded = [...document.querySelectorAll("section > details:not([open])")];
    folded.forEach((details) => (details.open = true));
    drawAll();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    folded.forEach((details) => (details.open = false));
    drawAll();
  });

  const sort = (table, column, button) => {
    const head = button.closest("th");
    const down = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : null;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null && y === null) {
        const order = a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        return down ? -order : order;
      }
      if (x === null || y === null) return x === null ? 1 : -1; // what is not known comes last
      return down ? y - x : x - y;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead button").forEach((button, column) => {
      button.addEventListener("click", () => sort(table, column, button));
    });
  }

  // Mark where the reader is.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("main > [id]").forEach((part) => watch.observe(part));
})();
