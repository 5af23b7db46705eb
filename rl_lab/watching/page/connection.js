// The socket to the server: one binary message for each view, JSON texts for everything else.

export class Connection {
  /** @param {{onView: Function, onText: Function, onEnd: Function}} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    const address = new URL("live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("message", (event) => this.receive(event.data));
    this.socket.addEventListener("close", () => handlers.onEnd());
  }

  receive(data) {
    if (typeof data === "string") {
      this.handlers.onText(JSON.parse(data));
      return;
    }
    const length = new DataView(data).getUint32(0);
    const view = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    let start = 4 + length;
    for (const lane of view.lanes) {
      lane.blob = new Blob([new Uint8Array(data, start, lane.picture.bytes)], { type: lane.picture.kind });
      start += lane.picture.bytes;
    }
    this.handlers.onView(view);
  }

  /** Send a command, such as send("seek", { step: 3 }). */
  send(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }
}
