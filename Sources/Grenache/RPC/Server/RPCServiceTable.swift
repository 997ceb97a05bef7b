internal import GrenacheFraming

/// The services of a server, found by the bytes of their names.
struct RPCServiceTable: Sendable {
  private struct Entry {
    let name: [UInt8]
    let service: RPCService
  }
  private let entries: [Entry]
  private let index: [String: Int]
  /// Up to this many names, comparing bytes beats making a string and hashing it.
  private static let scanMax = 8

  init(_ services: [RPCService]) {
    entries = services.map { Entry(name: Array($0.name.utf8), service: $0) }
    var index: [String: Int] = [:]
    for (position, service) in services.enumerated() { index[service.name] = position }
    self.index = index
  }

  /// A name that two of them have.
  var doubledName: String? {
    var known: Set<String> = []
    return names.first { !known.insert($0).inserted }
  }

  var names: [String] { entries.map(\.service.name) }
  /// Whether one of them takes calls as streams.
  var hasStreams: Bool { entries.contains { $0.service.streamHandler != nil } }

  /// The service that the key of `envelope` names.
  @inline(__always)
  func service(for envelope: RPCRequestEnvelope, in bytes: Span<UInt8>) -> RPCService? {
    if let range = envelope.key, !envelope.keyHasEscapes, entries.count <= Self.scanMax {
      let key = bytes.extracting(range)
      for entry in entries where entry.name.span.equals(key) { return entry.service }
      return nil
    }
    return envelope.keyString(in: bytes).flatMap { service(named: $0) }
  }

  func service(named name: String) -> RPCService? {
    index[name].map { entries[$0].service }
  }
}
