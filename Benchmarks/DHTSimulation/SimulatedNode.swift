package import GrenacheDHT

/// One node of a simulated network and what is peculiar to its place there.
package final class SimulatedNode {
  package let number: Int
  package let address: DHTAddress
  /// `nil` while it is down.
  package var node: DHTNode?
  /// How often it has been started.
  var lives = 0
  /// What it wakes up with if it is started again with its memory.
  var memory: Memory?
  /// Its clock: how far ahead of the network's it began, and how fast it goes.
  var clockOffset = Duration.zero
  var clockRate = 1.0
  /// Datagrams pass only between nodes of the same side.
  package var side = 0
  /// How long its NAT remembers whom it has sent something, who alone may send to it; `nil` without one.
  var natTimeout: Duration?
  var sentAt: [DHTAddress: Int64] = [:]
  /// When it is woken next, in the network's time; later wake-ups are forgotten.
  var wakesAt: Int64?
  /// What it has received.
  package var datagramsReceived = 0
  package var bytesReceived = 0
  /// `get_peers` sent and their answers received, if they are counted.
  package var lookupMessages: Int?
  /// What answers in its place, for nodes that do not keep to the rules.
  package var impostor: (any Impostor)?

  struct Memory {
    /// When it was written down, in the network's time.
    var time: Int64
    var ids: DHTNodeIDs
    var contacts: [DHTContact]
    var peers: [DHTNode.KeptPeer]
    var items: [DHTNode.KeptItem]
  }

  init(number: Int, address: DHTAddress) {
    self.number = number
    self.address = address
  }

  /// Changes the node in its place, if it is up.
  package func change(_ body: (inout DHTNode) -> Void) {
    node?.change(body)
  }

  var isBehindNAT: Bool { natTimeout != nil }

  /// Whether a datagram from there comes through its NAT, if it has one.
  func admits(_ source: DHTAddress, at now: Int64) -> Bool {
    guard let natTimeout else { return true }
    guard let time = sentAt[source] else { return false }
    return .nanoseconds(now - time) <= natTimeout
  }

  /// Its own time, which need not be the network's.
  func time(at now: Int64) -> Duration {
    clockOffset + .nanoseconds(clockRate == 1 ? now : Int64(Double(now) * clockRate))
  }

  func networkTime(of time: Duration) -> Int64 {
    let (seconds, attoseconds) = (time - clockOffset).components
    // Rounded up: woken a fraction early, it would be woken again at the very same time.
    let own = min(seconds, 1 << 32) * 1_000_000_000 + (attoseconds + 999_999_999) / 1_000_000_000
    return clockRate == 1 ? own : Int64((Double(own) / clockRate).rounded(.up)) + 1
  }
}

extension [UInt8] {
  fileprivate static let peerQuery = Array("1:q9:get_peers".utf8)
  fileprivate static let token = Array("5:token".utf8)
  fileprivate static let response = Array("1:y1:re".utf8)

  var isPeerQuery: Bool { contains(Self.peerQuery) }
  /// The answer to a lookup's query: no other has a token.
  var isAnswerWithToken: Bool { suffix(7).elementsEqual(Self.response) && contains(Self.token) }
}

extension Duration {
  var wholeNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}

extension DHTNode {
  /// Changes a node where it is: a copy of it is large.
  fileprivate mutating func change(_ body: (inout DHTNode) -> Void) { body(&self) }
}

/// Somebody who does not keep to the rules.
package protocol Impostor: AnyObject {
  /// What is sent when a datagram has come.
  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)]
}
