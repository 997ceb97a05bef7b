import GrenacheFraming

/// Frames as a server and as a client reads them, and what is done to their payloads.
enum WebSocketCases {
  static var all: [Case] {
    [
      frames(.server, .binary, goal: 10e6), frames(.client, .text, goal: 10e6), writing, unmasking,
      fragments,
      utf8("UTF-8, ASCII", "The quick brown fox jumps over the lazy dog. "),
      utf8("UTF-8, two bytes", "Съешь же ещё этих мягких французских булок. "),
      utf8("UTF-8, three bytes", "いろはにほへと散りぬるを我が世誰ぞ常ならむ"),
    ]
  }
  private static let count = 1000

  /// Frames of 64 bytes of payload.
  private static func frames(
    _ role: WebSocketRole, _ opcode: WebSocketOpcode, goal: Double
  ) -> Case {
    let name = "WebSocket \(opcode) frames of 64 bytes, \(role)"
    return Case(name: name, unit: .operations, goal: goal) {
      let payload = [UInt8](repeating: 0x61, count: 64)
      var window: [UInt8] = []
      for _ in 0..<count {
        window.appendWebSocketFrame(
          opcode, payload.span, maskingKey: role == .server ? 0x1234_5678 : nil)
      }
      var reader = WebSocketReader(role: role, limits: WebSocketLimits())
      return {
        var offset = 0
        var frames = 0
        var span = window.mutableSpan
        do {
          while case .message = try reader.next(&span, from: &offset) { frames += 1 }
        } catch {
          fatalError("\(error)")
        }
        return frames
      }
    }
  }

  private static var writing: Case {
    Case(name: "WebSocket frames of 64 bytes, written", unit: .operations) {
      let payload = [UInt8](repeating: 0x61, count: 64)
      var output: [UInt8] = []
      return {
        output.removeAll(keepingCapacity: true)
        for _ in 0..<count {
          output.appendWebSocketFrame(.binary, payload.span, maskingKey: 0x1234_5678)
        }
        return count
      }
    }
  }

  private static var unmasking: Case {
    Case(name: "unmasking, 64 KiB at a time", unit: .bytes, goal: 8e9) {
      var bytes = [UInt8](repeating: 7, count: 64 << 10)
      return {
        bytes.maskWebSocketPayload(from: 0, key: 0x1234_5678)
        return bytes.count
      }
    }
  }

  /// P8: 16 MiB in frames of 1 KiB within 100 ms.
  private static var fragments: Case {
    Case(name: "16 MiB in fragments of 1 KiB", unit: .bytes, goal: 168e6, mayAllocate: true) {
      let part = [UInt8](repeating: 7, count: 1 << 10)
      var window: [UInt8] = []
      for number in 0..<(16 << 10) {
        window.appendWebSocketFrame(
          number == 0 ? .binary : .continuation, part.span, maskingKey: nil,
          isFinal: number == (16 << 10) - 1)
      }
      let limits = WebSocketLimits(messageBytesMax: 16 << 20, fragmentsMax: .max)
      var reader = WebSocketReader(role: .client, limits: limits)
      return {
        var offset = 0
        var span = window.mutableSpan
        guard case .assembledMessage? = try? reader.next(&span, from: &offset) else {
          fatalError("no message")
        }
        return reader.takeMessage().count
      }
    }
  }

  private static func utf8(_ name: String, _ sample: String) -> Case {
    Case(name: name, unit: .bytes) {
      let bytes = Array(String(repeating: sample, count: (64 << 10) / sample.utf8.count).utf8)
      return {
        precondition(isValidUTF8(bytes.span))
        return bytes.count
      }
    }
  }
}
