// Trees of permissions: a box for each branch, counts that follow, and what was changed.
"use strict";

function count(branch) {
  const boxes = [...branch.querySelectorAll("li input[type=checkbox]")];
  const ticked = boxes.filter((box) => box.checked).length;
  branch.querySelector("[data-count]").textContent = `${ticked} / ${boxes.length}`;
  const whole = branch.whole;
  whole.checked = ticked === boxes.length;
  whole.indeterminate = ticked > 0 && ticked < boxes.length;
}

for (const form of document.querySelectorAll("[data-tree]")) {
  for (const branch of form.querySelectorAll(".branch")) {
    const whole = document.createElement("input"), summary = branch.querySelector("summary");
    whole.type = "checkbox";
    whole.setAttribute("aria-label", summary.querySelector("strong").textContent);
    branch.whole = whole;
    // Beside the summary and not in it: a control within another one is neither's.
    branch.insertAdjacentElement("beforebegin", whole);
    whole.className = "whole";
    whole.addEventListener("change", () => {
      for (const box of branch.querySelectorAll("li input[type=checkbox]")) box.checked = whole.checked;
      count(branch);
      branch.open = true;
    });
    branch.addEventListener("change", () => count(branch));
    count(branch);
  }
}
