package import GrenacheIO
package import GrenacheTLS
package import Logging

/// Logs what a policy does not allow, with who wanted it: of one caller and one key, once in a while, so
/// that nobody floods the log by asking again, or by connecting again.
package final class DenialLog: Sendable {
  /// The bytes of a key that are logged.
  package static let keyBytesMax = 200

  private let throttle = LogThrottle()

  /// A log of which nothing is known yet.
  package init() {}

  /// Logs that `peer`, or whoever is at `address` and shows no certificate, may not do that.
  package func log(
    _ right: AccessPolicy.Right, on key: String, by peer: PeerIdentity?, at address: SocketAddress,
    now: MonotonicTime = .now(), _ logger: Logger
  ) {
    let key = key.quotedForLog(bytesMax: Self.keyBytesMax)
    // A caller without a certificate has another port each time that it comes.
    let caller = peer?.displayName ?? address.unmapped.ip
    guard throttle.isNew("\(right.rawValue) \(caller) \(key)", now: now) else { return }
    let who = peer?.displayName ?? "\(address)"
    logger.notice(
      "denied: no rule of the access policy allows it",
      metadata: [
        "right": "\(right.rawValue)", "service": "\(key)", "by": "\(who.quotedForLog)",
        "from": "\(address)",
      ])
  }
}
