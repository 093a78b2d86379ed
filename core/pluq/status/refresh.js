// Ask for the page again every ten seconds and show what is new. Without this script the page says the same, once.
(() => {
  "use strict";
  const SECONDS = 10;
  const button = document.getElementById("refresh");
  const note = document.getElementById("note");
  let paused = false;

  function show() {
    button.textContent = paused ? "Resume updates" : "Pause updates";
    button.setAttribute("aria-pressed", String(paused));
  }

  async function update() {
    if (paused || document.hidden) return;
    const chosen = String(window.getSelection());
    const focused = document.activeElement;
    // Nobody's selection, and nobody's place on the page, is taken away.
    if (chosen || (focused && focused.closest && focused.closest("main"))) return;
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const open = new Set([...document.querySelectorAll("details[open]")].map((one) => one.id));
      for (const id of ["top", "main"]) {
        document.getElementById(id).replaceChildren(...fresh.getElementById(id).childNodes);
      }
      for (const one of document.querySelectorAll("details")) one.open = open.has(one.id);
      document.title = fresh.title;
      note.textContent = "";
    } catch {
      note.textContent = "No answer: what you see is old.";
    }
  }

  button.hidden = false;
  show();
  button.addEventListener("click", () => { paused = !paused; show(); update(); });
  setInterval(update, SECONDS * 1000);
})();
