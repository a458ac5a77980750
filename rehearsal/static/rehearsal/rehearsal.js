// What an answer brings belongs on the page, wherever the form is that asked for it: a form that was
// replaced while it waited is in no document, and htmx would look for the targets beside it.
document.querySelector(".rehearsal").addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (!detail.shouldSwap || detail.requestConfig.elt.isConnected) return;
  detail.shouldSwap = false;
  // That of a poll whose place was taken may be older than the page, and say that all has ended.
  if (detail.requestConfig.verb === "get") return;
  htmx.swap(document.body, detail.serverResponse, { swapStyle: "none" });
});

// Who pressed a button by the keyboard stays at its line when the answer replaces that button.
{
  const page = document.querySelector(".rehearsal");
  let line = null;
  page.addEventListener("htmx:oobBeforeSwap", ({ detail }) => {
    if (detail.target.contains(document.activeElement)) line = detail.target.closest(".rehearsal-item");
  });
  page.addEventListener("htmx:oobAfterSwap", () => {
    if (line && document.activeElement === document.body) line.querySelector("summary").focus({ preventScroll: true });
    line = null;
  });
}
