// The list of recordings: which of them are shown.
"use strict";
(function () {
  var form = document.getElementById("choice");
  if (!form) return;
  var rows = Array.from(document.querySelectorAll(".verdicts tbody tr")), status = document.getElementById("shown");
  form.addEventListener("input", function () {
    var verdict = form.elements.verdict.value, text = form.elements.find.value.trim().toLowerCase(), shown = 0;
    rows.forEach(function (row) {
      row.hidden = (verdict !== "" && row.dataset.verdict !== verdict) || row.cells[0].textContent.toLowerCase().indexOf(text) < 0;
      if (!row.hidden) shown += 1;
    });
    status.textContent = shown + " shown";
  });
})();
