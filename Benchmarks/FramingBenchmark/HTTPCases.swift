import GrenacheFraming

/// Parsing HTTP: heads as they come, several in one window.
enum HTTPCases {
  static var all: [Case] {
    [request, response, chunked]
  }

  /// 150 bytes, as an RPC client sends them.
  static let head =
    "POST /rpc HTTP/1.1\r\nHost: worker.example:4430\r\nContent-Type: application/json\r\n"
    + "Content-Length: 0\r\nConnection: keep-alive\r\nUser-Agent: grenache-swi\r\n\r\n"
  private static let count = 64

  private static var request: Case {
    Case(name: "HTTP request of \(head.utf8.count) bytes", unit: .operations, goal: 2e6) {
      let window = [[UInt8]](repeating: Array(head.utf8), count: count).flatMap(\.self)
      var parser = HTTPRequestParser(limits: HTTPLimits())
      return {
        var offset = 0
        var parsed = 0
        do {
          while true {
            switch try parser.next(window.span, from: &offset) {
            case .end:
              parsed += 1
              parser.startNextCycle()
            case .head, .body, .informational: continue
            case .needBytes, .paused, .upgraded: return parsed
            }
          }
        } catch {
          fatalError("\(error)")
        }
      }
    }
  }

  private static var response: Case {
    Case(name: "HTTP response of 120 bytes", unit: .operations) {
      let text =
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n"
        + "Keep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"
      let window = [[UInt8]](repeating: Array(text.utf8), count: count).flatMap(\.self)
      var parser = HTTPResponseParser(limits: HTTPLimits())
      return {
        var offset = 0
        var parsed = 0
        do {
          while true {
            switch try parser.next(window.span, from: &offset) {
            case .end:
              parsed += 1
              parser.startNextCycle()
            case .head, .body, .informational: continue
            case .needBytes, .paused, .upgraded: return parsed
            }
          }
        } catch {
          fatalError("\(error)")
        }
      }
    }
  }

  private static var chunked: Case {
    Case(name: "HTTP chunks of 64 bytes", unit: .operations) {
      let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      let chunk = "40\r\n\(String(repeating: "x", count: 64))\r\n"
      let window = Array((head + String(repeating: chunk, count: 1000) + "0\r\n\r\n").utf8)
      var parser = HTTPRequestParser(limits: HTTPLimits())
      return {
        var offset = 0
        var chunks = 0
        do {
          while true {
            switch try parser.next(window.span, from: &offset) {
            case .body: chunks += 1
            case .end: parser.startNextCycle()
            case .head, .informational: continue
            case .needBytes, .paused, .upgraded: return chunks
            }
          }
        } catch {
          fatalError("\(error)")
        }
      }
    }
  }
}
