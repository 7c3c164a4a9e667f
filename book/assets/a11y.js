// What the theme leaves out for readers who use a keyboard or a screen reader.
window.addEventListener("load", async () => {
  // The name of a button holds the words that it shows.
  for (const summary of document.querySelectorAll("summary[aria-label]")) {
    summary.removeAttribute("aria-label");
  }
  for (const button of document.querySelectorAll("button[aria-label]")) {
    if (button.innerText.trim()) button.removeAttribute("aria-label");
  }
  const modes = "Color mode: Light, Dark, System Settings"; // the names of its icons
  document.querySelector(".theme-switch-button")?.setAttribute("aria-label", modes);

  // Every part of the page belongs to a landmark.
  const logo = document.querySelector(".sidebar-primary-item:has(> .logo)");
  logo?.setAttribute("role", "navigation");
  logo?.setAttribute("aria-label", "Home");

  // What scrolls can be reached with the Tab key: on any screen, with any font.
  await window.MathJax?.startup?.promise;
  const boxes = document.querySelectorAll("mjx-container, div.math, div.cell_output > div.output");
  const watcher = new ResizeObserver(() => {
    for (const box of boxes) {
      const mayScroll = getComputedStyle(box).overflowX !== "visible";
      const scrolls = mayScroll && box.scrollWidth > box.clientWidth;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  });
  for (const box of boxes) {
    for (const part of [box, ...box.children]) watcher.observe(part);
  }
});
