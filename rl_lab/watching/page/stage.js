// The picture of the environment. A picture that is decoded too late gives way to the next.

export class Stage {
  constructor(element, label) {
    this.canvas = element.querySelector("canvas.picture");
    this.canvas.setAttribute("aria-label", `Picture of the environment as ${label} plays`);
    this.ended = element.querySelector(".ended");
    this.next = null;
    this.busy = false;
  }

  show(blob, picture) {
    this.next = { blob, picture };
    if (!this.busy) this.draw();
  }

  async draw() {
    this.busy = true;
    while (this.next) {
      const { blob, picture } = this.next;
      this.next = null;
      const image = await createImageBitmap(blob);
      if (this.canvas.width !== picture.width || this.canvas.height !== picture.height) {
        this.canvas.width = picture.width;
        this.canvas.height = picture.height;
        const scale = Math.max(1, Math.floor(420 / Math.max(picture.width, picture.height)));
        this.canvas.classList.toggle("coarse", scale > 1);
        this.canvas.style.width = `${picture.width * scale}px`;
      }
      this.canvas.getContext("2d").drawImage(image, 0, 0);
      image.close();
      document.documentElement.dataset.frames = String(Number(document.documentElement.dataset.frames ?? 0) + 1);
    }
    this.busy = false;
  }

  end(text) {
    this.ended.hidden = !text;
    this.ended.textContent = text;
  }
}
