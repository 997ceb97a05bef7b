internal import GrenacheIO
internal import Synchronization

/// Which denials have been logged lately: of one caller and one key, one in a while.
final class DenialLog: Sendable {
  /// How long the same denial is not logged again.
  static let interval = Duration.seconds(60)
  /// Denials that are remembered; while there are so many, no more are logged.
  static let denialsMax = 1_000

  private let logged = Mutex<[String: MonotonicTime]>([:])

  /// Whether that denial is to be logged, which it counts as then.
  func isNew(_ denial: String, now: MonotonicTime = .now()) -> Bool {
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
  var quotedForLog: String {
    var result = ""
    for scalar in unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
        result += "\\u{\(String(scalar.value, radix: 16))}"
      default:
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
