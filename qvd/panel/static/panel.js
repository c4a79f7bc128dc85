// What pages do better with a script; all of them work without it.
"use strict";

// The menu is open where there is room for it.
const wide = window.matchMedia("(min-width: 56rem)");
function foldMenu() {
  for (const fold of document.querySelectorAll("[data-fold]")) fold.open = wide.matches;
}
wide.addEventListener("change", foldMenu);
foldMenu();

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// A slash goes to the search, as on other sites.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const find = document.getElementById("find-q");
  if (find) {
    event.preventDefault();
    find.focus();
  }
});
