internal import GrenacheIO
internal import GrenacheTransport

/// Failures that come again and again, each told once: the first of each source, and one of another kind
/// than the one before; of one source nothing more for a while, though it comes and goes.
struct RecurringFailures<Source: Hashable> {
  private struct Entry {
    var kind: String?
    var toldAt: MonotonicTime
  }

  /// The pause between two that are told of one source.
  let pause: Duration
  /// Sources that are remembered; while there are so many, no others are told of.
  let sourcesMax: Int
  private var entries: [Source: Entry] = [:]

  init(pause: Duration = .seconds(10), sourcesMax: Int = 1_000) {
    self.pause = pause
    self.sourcesMax = sourcesMax
  }

  var count: Int { entries.count }

  /// Whether a failure is to be told, which it counts as then.
  mutating func isNew(_ kind: String, of source: Source, at now: MonotonicTime) -> Bool {
    if let known = entries[source] {
      guard known.kind != kind, now - known.toldAt >= pause else { return false }
    } else if entries.count >= sourcesMax {
      // What has ended long ago may come back as something new.
      entries = entries.filter { $0.value.kind != nil || now - $0.value.toldAt < pause }
      guard entries.count < sourcesMax else { return false }
    }
    entries[source] = Entry(kind: kind, toldAt: now)
    return true
  }

  /// What has failed works again, or is not tried any more.
  ///
  /// - Returns: whether its failure had been told.
  @discardableResult
  mutating func ended(_ source: Source) -> Bool {
    guard let known = entries[source], known.kind != nil else { return false }
    entries[source]?.kind = nil
    return true
  }
}

extension GrenacheError {
  /// What tells one failure from another one, whatever the details.
  var kind: String {
    let tls = cause?.tls.map { " \($0.code)" } ?? ""
    return "\(code) \(cause.map { "\($0.code)" } ?? "")\(tls)"
  }
}
