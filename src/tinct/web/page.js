// What gradio's components lack for the keyboard: the border between before and after moves with the arrow keys,
// settings that are changed by keys count at once, and examples say their names.
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

  // Gradio's sliders ask for new colours when a pointer is let go, their numbers when the focus leaves.
  document.addEventListener("keyup", (event) => {
    if (!event.target.matches?.("#settings input") || !/^(Arrow|Page|Home|End|Enter)/.test(event.key)) return;
    if (event.target.type === "range") event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
    else if (event.key === "Enter") event.target.blur();
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
