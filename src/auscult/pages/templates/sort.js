// Tables whose headings sort, by click or key: a cell's key is its data-v, or its text. Empty keys stay at the end.
"use strict";
(function () {
  function key(cell) {
    if (!cell) return null;
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.closest("table").rows[0].cells[cell.cellIndex].classList.contains("n") ? null : cell.textContent.trim();
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function sort(table, column, down) {
    var body = table.tBodies[0];
    var rows = Array.from(body.rows).map(function (row, place) { return { row: row, key: key(row.cells[column]), place: place }; });
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      return (down ? -1 : 1) * compare(a.key, b.key) || a.place - b.place;
    });
    rows.forEach(function (item) { body.appendChild(item.row); });
  }
  auscult.sortable = function (root) {
    root.querySelectorAll("table.sortable").forEach(function (table) {
      if (table.dataset.ready || !table.tHead) return;
      table.dataset.ready = "1";
      Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
        var button = document.createElement("button");
        button.type = "button";
        while (heading.firstChild) button.appendChild(heading.firstChild);
        heading.appendChild(button);
        heading.setAttribute("aria-sort", "none");
        button.addEventListener("click", function () {
          var before = heading.getAttribute("aria-sort"), numbers = heading.classList.contains("n");
          var down = before === "none" ? numbers : before === "ascending";  // the largest number first, names from A
          Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.setAttribute("aria-sort", "none"); });
          heading.setAttribute("aria-sort", down ? "descending" : "ascending");
          sort(table, column, down);
        });
      });
    });
  };
  auscult.sortable(document);
})();
