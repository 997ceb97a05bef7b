public import GrenacheTLS
package import Logging
internal import Metrics

/// What came of loading certificates again.
public enum TLSReloadOutcome: Sendable {
  /// They are in use from now on, until `notAfter` in seconds since 1970.
  case loaded(notAfter: Int64)
  /// They cannot be used, and those before them stay in use.
  case failed(TLSConfigurationError)
}

extension TLSContext {
  /// Says, at each start, what is less secure than it could be.
  package func logInsecureOptions(role: String, _ logger: Logger) {
    guard let file = configuration.insecureKeyLogFile else { return }
    logger.warning(
      "the keys of all connections are logged: whoever has the file reads everything",
      metadata: ["role": "\(role)", "file": "\(file)"])
  }
}

extension TLSContext {
  /// Says that the status to staple is not, because it is out of date.
  fileprivate func logStaleStatus(role: String, _ logger: Logger) {
    guard isStatusOutOfDate else { return }
    logger.warning(
      "the certificate's status is out of date and is not stapled: have it fetched anew",
      metadata: ["role": "\(role)"])
  }
}

extension TLSContext {
  /// Says which roots vouch for nobody any more.
  fileprivate func logExpiredRoots(role: String, _ logger: Logger) {
    let expired = current.expiredRoots
    guard !expired.isEmpty else { return }
    logger.warning(
      "authorities that have expired are among the roots, and vouch for nobody",
      metadata: ["role": "\(role)", "count": "\(expired.count)", "first": "\(expired[0])"])
  }
}

extension FileReloader {
  /// Keeps the certificates of `context` fresh, and their expiry in the metrics.
  package init(
    _ context: TLSContext, role: String, logger: Logger,
    report: (@Sendable (TLSReloadOutcome) -> Void)? = nil
  ) {
    let expiry = Gauge(
      label: "grenache_tls_certificate_not_after_seconds", dimensions: [("role", role)])
    expiry.record(context.notAfter)
    context.logStaleStatus(role: role, logger)
    context.logExpiredRoots(role: role, logger)
    self.init(
      "certificates", role: role, logger: logger, interval: context.configuration.reloadInterval,
      period: context.configuration.reloadPeriod,
      present: { context.configuration.stamps }, loaded: { context.stamps },
      reload: { try context.reload() },
      report: { error in
        expiry.record(context.notAfter)
        context.logStaleStatus(role: role, logger)
        if let error = error as? TLSConfigurationError {
          report?(.failed(error))
        } else if error == nil {
          context.logExpiredRoots(role: role, logger)
          report?(.loaded(notAfter: context.notAfter))
        }
      })
  }
}
