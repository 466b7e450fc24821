// Of every page: the theme, and what scrolls.
"use strict";
window.auscult = {};

(function theme() {
  var button = document.getElementById("theme"), root = document.documentElement;
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function show() {
    button.textContent = dark() ? "Light theme" : "Dark theme";  // what a click gives
    document.dispatchEvent(new Event("themechange"));
  }
  button.addEventListener("click", function () {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("auscult-theme", root.dataset.theme); } catch (error) { /* a page that may not store */ }
    show();
  });
  system.addEventListener("change", show);
  show();
})();

// What scrolls sideways, and has more to show at its right, says so by a shade at that edge.
auscult.edges = function (root) {
  root.querySelectorAll(".scroll, header nav").forEach(function (box) {
    function look() { box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 4); }
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
  });
};
auscult.edges(document);
document.querySelectorAll("form.controls").forEach(function (form) {
  form.addEventListener("submit", function (event) { event.preventDefault(); });
});
