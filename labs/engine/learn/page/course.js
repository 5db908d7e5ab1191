// The token has done its work, the cookie is there: it need not stay in the address.
history.replaceState(null, "", "/");
// The terminal measures its letters as it opens: they have to be there by then.
document.fonts.load("16px 'Roboto Mono'");

const isClosed = () => document.body.classList.contains("-closed");

// The keys are for the course from the start, again whenever one comes back to the page, and at the
// end for the way to begin again.
function focus() {
  document.querySelector(isClosed() ? "#ended a" : ".xterm-helper-textarea")?.focus();
}
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(focus).observe(document.body, { attributeFilter: ["class"] });
});
window.addEventListener("focus", focus);

// The terminal would tell a server that is not there any more that nobody looks at it.
document.addEventListener("blur", (event) => isClosed() && event.stopPropagation(), true);
