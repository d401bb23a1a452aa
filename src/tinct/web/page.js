// What gradio's components lack for the keyboard: the border between before and after moves with the arrow keys,
// and examples say their names.
() => {
  const STEP = 0.05;

  const drag = (handle, distance) => {
    const box = handle.getBoundingClientRect();
    const x = box.left + box.width / 2;
    const y = box.top + box.height / 2;
    const fire = (type, target, at) =>
      target.dispatchEvent(
        new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: at, clientY: y }),
      );
    fire("mousedown", handle, x);
    fire("mousemove", window, x + distance);
    fire("mouseup", window, x + distance);
  };

  const tell = (handle) => {
    const frame = handle.parentElement.getBoundingClientRect();
    const box = handle.getBoundingClientRect();
    handle.ariaValueNow = Math.round((100 * (box.left + box.width / 2 - frame.left)) / Math.max(frame.width, 1));
  };

  document.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const handle = event.target;
    if (!way || handle.dataset?.testid !== "slider") return;
    event.preventDefault();
    drag(handle, way * STEP * handle.parentElement.clientWidth);
    requestAnimationFrame(() => tell(handle));
  });

  const mend = () => {
    for (const handle of document.querySelectorAll("[data-testid=slider]:not([tabindex])")) {
      Object.assign(handle, { tabIndex: 0, role: "slider", ariaLabel: "Border between before and after" });
      Object.assign(handle, { ariaValueMin: 0, ariaValueMax: 100, ariaValueNow: 50 });
    }
    for (const button of document.querySelectorAll("#examples button[aria-label^=Thumbnail]")) {
      button.ariaLabel = button.querySelector("img").alt;
    }
  };
  mend();
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
}
