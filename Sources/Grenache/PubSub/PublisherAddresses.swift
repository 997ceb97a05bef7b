internal import GrenacheTransport

/// The addresses of one publisher: the one that is in use, and its other ones.
struct PublisherAddresses {
  /// The one that is connected, or tried next.
  private(set) var current: Endpoint
  /// The other ones, as far as they are known, in the order in which they are tried then.
  private(set) var others: [Endpoint] = []

  init(_ endpoint: Endpoint) {
    current = endpoint
  }

  var all: [Endpoint] { [current] + others }

  mutating func add(_ endpoints: [Endpoint]) {
    let known = all
    others += endpoints.filter { !known.contains($0) }
  }

  /// Goes on with the next one; the current one comes last from now on.
  mutating func turnToNext() {
    others.append(current)
    current = others.removeFirst()
  }

  /// Gives the current one up for the next one.
  ///
  /// - Returns: whether there was another one.
  mutating func leaveCurrent() -> Bool {
    guard !others.isEmpty else { return false }
    current = others.removeFirst()
    return true
  }

  /// Gives up those of the others that `isGone`.
  ///
  /// - Returns: those.
  mutating func removeOthers(where isGone: (Endpoint) -> Bool) -> [Endpoint] {
    let gone = others.filter(isGone)
    others.removeAll { gone.contains($0) }
    return gone
  }

  /// Gives up the others.
  ///
  /// - Returns: those.
  mutating func takeOthers() -> [Endpoint] {
    defer { others = [] }
    return others
  }
}
