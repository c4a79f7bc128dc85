// Selecting in lists: all rows of the page at once, and how many they are.
"use strict";

const all = document.getElementById("pick-all");
if (all) {
  const boxes = () => document.querySelectorAll('td.pick input[name="ids"]');
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches('td.pick input[name="ids"]')) return;
    const chosen = [...boxes()].filter((box) => box.checked).length;
    all.checked = chosen > 0 && chosen === boxes().length;
    all.indeterminate = chosen > 0 && chosen < boxes().length;
  });
}
