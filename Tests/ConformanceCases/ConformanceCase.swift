package import GrenacheFraming

/// A case of a public conformance suite, by its number: what a peer sends in frames, what the reader
/// makes of it, and what an endpoint that echoes messages answers.
package struct ConformanceCase: Sendable, CustomStringConvertible {
  /// A frame by its first byte, well-formed or not.
  package struct Frame: Sendable {
    package var first: UInt8
    package var payload: [UInt8]

    package init(_ first: UInt8, _ payload: [UInt8]) {
      self.first = first
      self.payload = payload
    }
  }

  package var number: String
  package var frames: [Frame]
  package var expected: [WebSocketEvent]
  package var description: String { number }

  package init(_ number: String, _ frames: [Frame], _ expected: [WebSocketEvent]) {
    self.number = number
    self.frames = frames
    self.expected = expected
  }

  /// What the peer of a `role` sends: masked when that is a server.
  package func bytes(to role: WebSocketRole) -> [UInt8] {
    Self.bytes(frames, to: role)
  }

  /// The same, with a close frame behind it when nothing in it ends the connection.
  package func bytesToTheEnd(to role: WebSocketRole) -> [UInt8] {
    Self.bytes(isFinal ? frames : frames + [.goodbye], to: role)
  }

  private static func bytes(_ frames: [Frame], to role: WebSocketRole) -> [UInt8] {
    frames.flatMap { frame in
      var output: [UInt8] = []
      output.appendWebSocketFrame(
        .binary, frame.payload.span, maskingKey: role == .server ? 0x0102_0384 : nil)
      output[0] = frame.first
      return output
    }
  }

  /// What comes back for `bytesToTheEnd`, reasons left out.
  package var answer: [WebSocketEvent] {
    let events = expected.compactMap { event -> WebSocketEvent? in
      switch event {
      case .message: event
      case .ping(let payload): .pong(payload)
      case .pong: nil
      case .close(let code, _): .close(code, "")
      case .error(let code): .close(code, "")
      }
    }
    return isFinal ? events : events + [.close(1000, "")]
  }

  /// Whether the peer breaks a rule.
  package var isViolation: Bool {
    if case .error? = expected.last { true } else { false }
  }

  private var isFinal: Bool {
    switch expected.last {
    case .close?, .error?: true
    case .message?, .ping?, .pong?, nil: false
    }
  }
}

extension ConformanceCase.Frame {
  static func text(_ payload: String, _ first: UInt8 = 0x81) -> Self {
    Self(first, Array(payload.utf8))
  }

  static func close(_ code: Int, _ reason: [UInt8] = []) -> Self {
    Self(0x88, [UInt8(code >> 8), UInt8(code & 255)] + reason)
  }

  static let goodbye = close(1000)
}
