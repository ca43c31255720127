"use strict";
// Shows every curve's value at the epoch under the pointer, or where the arrow keys lead.
for (const section of document.querySelectorAll(".curves")) {
  const [left, right, width] = section.dataset.plot.split(" ").map(Number);
  const panels = [...section.querySelectorAll("figure")].map((figure) => {
    const [first, last, shown] = figure.dataset.span.split(" ").map(Number);
    return {
      first, last, shown,
      curves: JSON.parse(figure.dataset.curves),
      svg: figure.querySelector("svg"),
      line: figure.querySelector(".pointer"),
      reading: figure.querySelector(".reading"),
    };
  });

  function show(panel, epoch) {
    const { first, last, curves, svg, line, reading } = panel;
    const figures = curves.map(({ name, epochs, values }) => [name, values[epochs.indexOf(epoch)]]);
    const known = figures.filter(([, value]) => value !== undefined && value !== null);
    const text = `epoch ${epoch}: ${known.map((figure) => figure.join(" ")).join(", ") || "no figure"}`;
    const x = first === last ? (left + right) / 2 : left + ((right - left) * (epoch - first)) / (last - first);
    panel.shown = epoch;
    reading.textContent = text;
    line.setAttribute("transform", `translate(${x - left} 0)`);
    line.setAttribute("visibility", "visible");
    svg.setAttribute("aria-valuenow", epoch);
    svg.setAttribute("aria-valuetext", text);
  }

  function showAll(epoch) {
    for (const panel of panels) show(panel, Math.min(Math.max(epoch, panel.first), panel.last));
  }

  for (const panel of panels) {
    const { svg, first, last, shown, reading } = panel;
    const slider = {
      role: "slider", tabindex: 0, "aria-valuemin": first, "aria-valuemax": last, "aria-valuenow": shown,
      "aria-valuetext": reading.textContent,
    };
    for (const [name, value] of Object.entries(slider)) svg.setAttribute(name, value);
    function follow(event) {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) * width) / box.width;
      showAll(Math.round(first + ((last - first) * (x - left)) / (right - left)));
    }
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("keydown", (event) => {
      const { shown } = panel;
      const ways = {
        ArrowLeft: shown - 1, ArrowRight: shown + 1, PageDown: shown - 10, PageUp: shown + 10, Home: first, End: last,
      };
      if (!(event.key in ways)) return;
      event.preventDefault();
      showAll(ways[event.key]);
    });
  }
}
