// What a reader would call broken on the page, one line each: evaluated in the page, the value is a promise of the list.
(async () => {
  const faults = new Set();
  const said = (element) => (element.textContent || element.tagName).trim().slice(0, 60);
  // An element that scrolls inside itself holds what is wider than it.
  const scrolls = (element) => element.closest(".scroll, .charts") !== null;
  if (document.documentElement.scrollWidth > innerWidth) {
    faults.add(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
  }
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (box.width > 0 && (box.right > innerWidth + 1 || box.left < -1) && !scrolls(element)) {
      faults.add(`<${element.tagName}> reaches from ${box.left} to ${box.right}: ${said(element)}`);
    }
  }
  for (const picture of document.querySelectorAll("image, img")) {
    const source = picture.getAttribute("href") || picture.getAttribute("src");
    const image = new Image();
    image.src = source;
    await image.decode().catch(() => {});
    const box = picture.getBoundingClientRect();
    if (!(image.naturalWidth > 0 && box.width > 0)) faults.add(`a picture is not shown: ${source.slice(0, 60)}`);
  }
  for (const text of document.querySelectorAll("svg text")) {
    const [box, view] = [text.getBBox(), text.ownerSVGElement.viewBox.baseVal];
    if (box.x < -0.5 || box.y < -0.5 || box.x + box.width > view.width + 0.5 || box.y + box.height > view.height + 0.5) {
      faults.add(`text leaves its picture (${view.width} x ${view.height}) at ${box.x + box.width}: ${said(text)}`);
    }
  }
  for (const cell of document.querySelectorAll("th, td, .card b")) {
    const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
    for (const word of text ? text.data.matchAll(/[\p{L}\p{N}.,]{2,16}(?![\p{L}\p{N}])/gu) : []) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      const begins = word.index === 0 || /\s/.test(text.data[word.index - 1]);
      if (begins && lines.size > 1) faults.add(`a word stands on ${lines.size} lines: ${word[0]}`);
    }
  }
  return [...faults];
})()
