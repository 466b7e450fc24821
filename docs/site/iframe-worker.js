// A browser starts no worker from a file:// page, so the search then runs in a hidden frame, which has the same two-way messages.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(script) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html>"
      frame.onload = () => {
        const inside = frame.contentWindow
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
        const element = inside.document.createElement("script")
        element.src = script
        element.onload = () => {
          this.send = data => inside.dispatchEvent(new inside.MessageEvent("message", {data}))
          this.waiting.forEach(this.send)
        }
        inside.document.head.append(element)
      }
      document.documentElement.append(frame)
    }
    postMessage(data) {
      if (this.send) this.send(data)
      else this.waiting.push(data)
    }
  }
