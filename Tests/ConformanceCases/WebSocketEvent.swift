package import GrenacheFraming

/// What a reader said about some input.
package enum WebSocketEvent: Hashable, Sendable {
  case message(WebSocketMessageKind, [UInt8])
  case ping([UInt8])
  case pong([UInt8])
  case close(UInt16?, String)
  case error(UInt16)

  /// Feeds `input` to a reader in pieces that end at `cuts`, as the transport does.
  package static func reading(
    _ input: [UInt8], role: WebSocketRole, cuts: [Int] = [],
    limits: WebSocketLimits = WebSocketLimits(), inflater: MessageInflater? = nil
  ) -> [WebSocketEvent] {
    var reader = WebSocketReader(role: role, limits: limits, inflater: inflater)
    var events: [WebSocketEvent] = []
    var window: [UInt8] = []
    var start = 0
    for end in cuts.sorted() + [input.count] {
      window += input[start..<end]
      start = end
      var offset = 0
      do throws(WebSocketError) {
        var span = window.mutableSpan
        while let event = try next(&reader, &span, &offset) { events.append(event) }
      } catch {
        return events + [.error(error.closeCode.rawValue)]
      }
      window.removeFirst(offset)
    }
    return events
  }

  private static func next(
    _ reader: inout WebSocketReader, _ window: inout MutableSpan<UInt8>, _ offset: inout Int
  ) throws(WebSocketError) -> WebSocketEvent? {
    switch try reader.next(&window, from: &offset) {
    case .message(let kind, let range): .message(kind, window.span.extracting(range).copy())
    case .assembledMessage(let kind): .message(kind, reader.takeMessage())
    case .ping(let range): .ping(window.span.extracting(range).copy())
    case .pong(let range): .pong(window.span.extracting(range).copy())
    case .close(let code, let reason):
      .close(code?.rawValue, window.span.extracting(reason).string())
    case .needBytes: nil
    }
  }
}
