// Data that is loaded when it is asked for, and the choice of tables.
"use strict";
Object.assign(auscult, (function () {
  var store = {}, waiting = {};
  function put(key, value) {
    store[key] = value;
    (waiting[key] || []).forEach(function (done) { done(value); });
    delete waiting[key];
  }
  // A local page may not fetch files, but it may run scripts that lie beside it.
  function script(file) {
    return new Promise(function (done, failed) {
      var element = document.createElement("script");
      element.src = file;
      element.onload = done;
      element.onerror = function () { failed(new Error(file + " is missing: copy the whole folder")); };
      document.head.appendChild(element);
    });
  }
  function load(key, file) {
    if (key in store) return Promise.resolve(store[key]);
    var first = !(key in waiting);
    var promise = new Promise(function (done) { (waiting[key] = waiting[key] || []).push(done); });
    if (!first) return promise;
    return script(file).then(function () { return promise; }, function (error) { delete waiting[key]; throw error; });
  }
  function json(id) { return JSON.parse(document.getElementById(id).textContent); }
  function fill(select, names, keep, titles) {
    var before = keep !== undefined ? keep : select.value;
    select.replaceChildren.apply(select, names.map(function (name) { return new Option(titles ? titles[name] : name, name); }));
    select.value = names.indexOf(before) >= 0 ? before : names[0];
    select.disabled = names.length < 2;
  }
  function unique(values) { return Array.from(new Set(values)); }
  return { put: put, load: load, script: script, json: json, fill: fill, unique: unique };
})());

(function tables() {
  var form = document.getElementById("table-choice"), place = document.getElementById("table");
  if (!form) return;
  var catalogue = auscult.json("catalogue"), all = catalogue.tables, field = form.elements, status = document.getElementById("table-status");
  var order = ["group", "set", "metric", "how"];
  function matching(upTo) {
    return all.filter(function (t) { return order.slice(0, upTo).every(function (name) { return t[name] === field[name].value; }); });
  }
  function narrow() {
    order.forEach(function (name, at) {
      auscult.fill(field[name], auscult.unique(matching(at).map(function (t) { return t[name]; })));
    });
  }
  function filter() {
    var text = field.find.value.trim().toLowerCase(), shown = 0;
    place.classList.toggle("headline-only", !field.others.checked);
    place.querySelectorAll("tbody tr").forEach(function (row) {
      row.hidden = text !== "" && (row.cells[0].textContent + " " + row.cells[1].textContent).toLowerCase().indexOf(text) < 0;
      if (!row.hidden && (field.others.checked || !row.classList.contains("other"))) shown += 1;
    });
    var caption = place.querySelector("caption");
    status.textContent = (caption ? caption.textContent + ": " : "") + shown + " rows";
  }
  function change(event) {
    if (event && (event.target === field.find || event.target === field.others)) return filter();
    narrow();
    var found = matching(4)[0];
    auscult.load("table/" + found.key, found.file).then(function (html) {
      place.innerHTML = html;
      auscult.sortable(place);
      auscult.edges(place);
      filter();
    }, function (error) { place.textContent = error.message; });
  }
  form.addEventListener("change", change);
  form.addEventListener("input", function (event) { if (event.target === field.find) filter(); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  order.forEach(function (name) { field[name].append(new Option(catalogue.first[name], catalogue.first[name])); });
  narrow();
  filter();
})();
