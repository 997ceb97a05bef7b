package import GrenacheIO
package import GrenacheTLS
package import Logging
internal import Synchronization

/// Logs what a policy does not allow, with who wanted it: of one caller and one key, once in a while, so
/// that nobody floods the log by asking again, or by connecting again.
package final class DenialLog: Sendable {
  /// How long the same denial is not logged again.
  package static let interval = Duration.seconds(60)
  /// Denials that are remembered; while there are so many, no more are logged.
  package static let denialsMax = 1_000
  /// The bytes of a key that are logged.
  package static let keyBytesMax = 200

  private let logged = Mutex<[String: MonotonicTime]>([:])

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
    guard isNew("\(right.rawValue) \(caller) \(key)", now: now) else { return }
    let who = peer?.displayName ?? "\(address)"
    logger.notice(
      "denied: no rule of the access policy allows it",
      metadata: [
        "right": "\(right.rawValue)", "service": "\(key)", "by": "\(who.quotedForLog)",
        "from": "\(address)",
      ])
  }

  /// Whether that denial is to be logged, which it counts as then.
  package func isNew(_ denial: String, now: MonotonicTime = .now()) -> Bool {
    logged.withLock { logged in
      if let time = logged[denial], now - time < Self.interval { return false }
      if logged.count >= Self.denialsMax {
        logged = logged.filter { now - $0.value < Self.interval }
        guard logged.count < Self.denialsMax else { return false }
      }
      logged[denial] = now
      return true
    }
  }
}

extension String {
  /// The text with what could end a line or move a cursor written as `\u{…}`.
  package var quotedForLog: String { quotedForLog(bytesMax: .max) }

  /// The same of a text that others have chosen the length of, too: so many bytes of it, and `…` for more.
  package func quotedForLog(bytesMax: Int = 200) -> String {
    var result = ""
    for scalar in unicodeScalars {
      let part =
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
          "\\u{\(String(scalar.value, radix: 16))}"
        default:
          String(Character(scalar))
        }
      guard result.utf8.count + part.utf8.count <= bytesMax else { return result + "…" }
      result += part
    }
    return result
  }
}
