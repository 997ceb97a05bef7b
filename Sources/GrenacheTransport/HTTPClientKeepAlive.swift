internal import GrenacheFraming

/// What a server says of how long it keeps a connection: the field `Keep-Alive: timeout=5, max=100` of RFC
/// 2068 §19.7.1.1, which no newer standard has, and which existing servers send.
struct HTTPClientKeepAlive: Hashable {
  /// How long the server keeps the connection without a request; `nil` when it does not say.
  var timeout: Duration?
  /// How many more requests it takes; `nil` when it does not say.
  var requestsMax: Int?

  /// Reads the field; what cannot be understood counts as not said.
  init(_ value: String?) {
    for parameter in value?.split(separator: ",") ?? [] {
      let parts = parameter.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let digits = parts[1].trimming { $0 == " " || $0 == "\t" || $0 == "\"" }
      guard digits.utf8.count <= 9, let number = Int(digits), number >= 0 else { continue }
      switch parts[0].trimming({ $0 == " " || $0 == "\t" }).lowercased() {
      // Of several the shortest is safe.
      case "timeout": timeout = min(timeout ?? .seconds(number), .seconds(number))
      case "max": requestsMax = min(requestsMax ?? number, number)
      default: break
      }
    }
  }

  /// Whether another request may be sent at all.
  var isUsable: Bool { timeout != .zero && requestsMax != 0 }

  /// How long an idle connection is kept: a second less than the server does, or half of a shorter time,
  /// since a request that meets the server's close is lost.
  func idleTimeout(atMost most: Duration) -> Duration {
    guard let timeout else { return most }
    return min(most, max(timeout - .seconds(1), timeout / 2))
  }
}

extension Substring {
  fileprivate func trimming(_ isOuter: (Character) -> Bool) -> Substring {
    var text = self
    while let first = text.first, isOuter(first) { text.removeFirst() }
    while let last = text.last, isOuter(last) { text.removeLast() }
    return text
  }
}
