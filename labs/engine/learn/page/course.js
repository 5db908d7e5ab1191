// The token has done its work, the cookie is there: it need not stay in the address.
history.replaceState(null, "", "/");
// The terminal measures its letters as it opens: they have to be there by then.
document.fonts.load("16px 'Roboto Mono'");

// The keys are for the course from the start, and again whenever one comes back to the page.
function focus() {
  document.querySelector(".xterm-helper-textarea")?.focus();
}
new MutationObserver((_changes, observer) => {
  if (document.body?.classList.contains("-first-byte")) {
    observer.disconnect();
    focus();
  }
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["class"] });
window.addEventListener("focus", focus);
