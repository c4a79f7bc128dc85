// Inputs that name other objects search as one types; without this, they offer the first hundred.
"use strict";

for (const input of document.querySelectorAll("input[data-options]")) {
  let due = 0;
  let asked = "";
  input.addEventListener("input", () => {
    clearTimeout(due);
    const text = input.value.trim();
    if (/\(#\d+\)$/.test(text)) return;
    due = setTimeout(async () => {
      asked = text;
      const answer = await fetch(`${input.dataset.options}?q=${encodeURIComponent(text)}`, { credentials: "same-origin" });
      if (!answer.ok || asked !== text) return;
      const options = (await answer.json()).map((value) => {
        const option = document.createElement("option");
        option.value = value;
        return option;
      });
      input.list.replaceChildren(...options);
    }, 200);
  });
}

// The first thing that is wrong is where one goes on.
document.querySelector('[aria-invalid="true"]')?.focus();
