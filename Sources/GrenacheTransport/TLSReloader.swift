internal import GrenacheIO
public import GrenacheTLS
package import Logging
internal import Metrics
internal import Synchronization

/// What came of loading certificates again.
public enum TLSReloadOutcome: Sendable {
  /// They are in use from now on, until `notAfter` in seconds since 1970.
  case loaded(notAfter: Int64)
  /// They cannot be used, and those before them stay in use.
  case failed(TLSConfigurationError)
}

/// Asks for certificates to be loaded again.
public enum TLSReload: Sendable {
  fileprivate static let requests = Atomic<Int>(0)

  /// Has every server, link and grape of this process that runs load its certificates again, whether
  /// their files have changed or not, within a quarter of a second: for a handler of SIGHUP.
  public static func requestAll() {
    requests.wrappingAdd(1, ordering: .relaxed)
  }
}

/// Keeps a context fresh: loads it again when its files have changed, or when that is asked for.
package struct TLSReloader: Sendable {
  /// How often requests are looked for when files are not watched.
  static let requestInterval = Duration.milliseconds(250)

  private let context: TLSContext
  private let role: String
  private let logger: Logger
  private let report: (@Sendable (TLSReloadOutcome) -> Void)?

  /// - Parameter role: who uses the context, for logs and metrics.
  package init(
    _ context: TLSContext, role: String, logger: Logger,
    report: (@Sendable (TLSReloadOutcome) -> Void)? = nil
  ) {
    self.context = context
    self.role = role
    self.logger = logger
    self.report = report
  }

  /// Runs until its task is cancelled.
  package func run() async {
    recordExpiry()
    var requests = TLSReload.requests.load(ordering: .relaxed)
    var failed: [FileStamp?]?
    var isReported = false
    let interval = context.configuration.reloadInterval
    while (try? await Task.sleep(for: interval ?? Self.requestInterval)) != nil {
      let requested = TLSReload.requests.load(ordering: .relaxed)
      let isRequested = requested != requests
      requests = requested
      let stamps = context.configuration.stamps
      let isChanged = interval != nil && stamps != context.stamps
      if !isRequested, !isChanged || (stamps == failed && isReported) { continue }
      do {
        try context.reload()
        failed = nil
        isReported = false
        loaded()
      } catch {
        // A set of files is not written at once: only what is still wrong at the next look is told.
        isReported = isRequested || stamps == failed
        failed = stamps
        if isReported { failedToLoad(error) }
      }
    }
  }

  private func loaded() {
    let days = (context.notAfter - WallClock.now().seconds) / 86_400
    logger.info("certificates loaded", metadata: ["role": "\(role)", "daysLeft": "\(days)"])
    Counter(label: "grenache_tls_reloads", dimensions: [("role", role), ("result", "loaded")])
      .increment()
    recordExpiry()
    report?(.loaded(notAfter: context.notAfter))
  }

  private func failedToLoad(_ error: TLSConfigurationError) {
    logger.error(
      "certificates cannot be loaded; those before them stay in use",
      metadata: ["role": "\(role)", "error": "\(error)"])
    Counter(label: "grenache_tls_reloads", dimensions: [("role", role), ("result", "failed")])
      .increment()
    report?(.failed(error))
  }

  private func recordExpiry() {
    Gauge(label: "grenache_tls_certificate_not_after_seconds", dimensions: [("role", role)])
      .record(context.notAfter)
  }
}
