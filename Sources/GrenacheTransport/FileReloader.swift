internal import GrenacheIO
package import GrenacheTLS
package import Logging
internal import Metrics
internal import ServiceLifecycle
internal import Synchronization

/// Asks for what comes from files to be loaded again.
public enum Reload: Sendable {
  fileprivate static let requests = Atomic<Int>(0)

  /// Has every server, link and grape of this process that runs load its certificates and access
  /// policies again, whether their files have changed or not, within a quarter of a second: for a
  /// handler of SIGHUP.
  public static func requestAll() {
    requests.wrappingAdd(1, ordering: .relaxed)
  }
}

/// Keeps what comes from files fresh: loads it again when they have changed, or when that is asked for.
package struct FileReloader: Sendable {
  /// How often requests are looked for when files are not watched.
  static let requestInterval = Duration.milliseconds(250)

  /// What is loaded and who uses it, for logs and metrics.
  package var what: String
  package var role: String
  package var logger: Logger
  /// How often to look; `nil` for only when it is asked for.
  package var interval: Duration?
  /// How often to load again, whether anything has changed or not; `nil` for never.
  package var period: Duration?
  /// The files as they are, and as they were when they were loaded.
  package var present: @Sendable () -> [FileStamp?]
  package var loaded: @Sendable () -> [FileStamp?]
  package var reload: @Sendable () throws -> Void
  /// Told of what has come of it: `nil`, or why what was there before stays in use.
  package var report: @Sendable ((any Error)?) -> Void
  /// After this what could not be loaded is tried again, though no file has changed: the fault may have been
  /// elsewhere (the clock, a certificate that begins later, descriptors, a passphrase's keeper).
  package var retryInterval = Duration.seconds(10)
  /// Requests that came before: what comes from now on counts, whenever it begins to run.
  private let requestsBefore = Reload.requests.load(ordering: .relaxed)

  package init(
    _ what: String, role: String, logger: Logger, interval: Duration?, period: Duration? = nil,
    present: @escaping @Sendable () -> [FileStamp?],
    loaded: @escaping @Sendable () -> [FileStamp?],
    reload: @escaping @Sendable () throws -> Void,
    report: @escaping @Sendable ((any Error)?) -> Void = { _ in }
  ) {
    self.what = what
    self.role = role
    self.logger = logger
    self.interval = interval
    self.period = period
    self.present = present
    self.loaded = loaded
    self.reload = reload
    self.report = report
  }

  /// Runs until its task is cancelled.
  package func run() async {
    var requests = requestsBefore
    var failed: [FileStamp?]?
    /// What was told of those.
    var told: String?
    var lastTry = MonotonicTime.now()
    let pause = [interval, period, Self.requestInterval].compactMap(\.self).min()
    var lastLook = MonotonicTime.now()
    var lastLoad = lastLook
    while (try? await Task.sleep(for: pause ?? Self.requestInterval)) != nil {
      let now = MonotonicTime.now()
      let requested = Reload.requests.load(ordering: .relaxed)
      let isDue = period.map { now - lastLoad >= $0 } ?? false
      let isRequested = requested != requests || isDue
      requests = requested
      if isDue { lastLoad = now }
      guard isRequested || interval.map({ now - lastLook >= $0 }) ?? false else { continue }
      lastLook = now
      let stamps = present()
      let isChanged = interval != nil && stamps != loaded()
      let isRetry = stamps == failed && told != nil
      if !isRequested, !isChanged || (isRetry && now - lastTry < retryInterval) { continue }
      lastTry = now
      do {
        try reload()
        failed = nil
        told = nil
        tell(nil)
      } catch {
        // A set of files is not written at once: only what is still wrong at the next look is told, and that
        // once.
        if stamps != failed { told = nil }
        let text = "\(error)"
        if isRequested || (stamps == failed && text != told) {
          tell(error)
          told = text
        }
        failed = stamps
      }
    }
  }

  /// Runs all of them until a graceful shutdown begins or the task is cancelled.
  package static func runUntilShutdown(_ reloaders: [FileReloader]) async {
    await withTaskGroup { group in
      for reloader in reloaders { group.addTask { await reloader.run() } }
      group.addTask { try? await gracefulShutdown() }
      // A reloader never ends by itself: the first to end is the wait, or all are cancelled.
      await group.next()
      group.cancelAll()
    }
  }

  private func tell(_ error: (any Error)?) {
    if let error {
      logger.error(
        "\(what) cannot be loaded; what was loaded before stays in use",
        metadata: ["role": "\(role)", "error": "\(error)"])
    } else {
      logger.info("\(what) loaded", metadata: ["role": "\(role)"])
    }
    Counter(
      label: "grenache_reloads_total",
      dimensions: [("what", what), ("role", role), ("result", error == nil ? "loaded" : "failed")]
    ).increment()
    report(error)
  }
}
