internal import Glibc

/// How many descriptors this process may have (`RLIMIT_NOFILE`).
package enum DescriptorLimit {
  /// Raises the limit to the highest that the system allows this process.
  ///
  /// A login begins with 1,024, for the sake of programs that wait by `select(2)`, which can take no more.
  /// Event loops do not: a server may have as many connections as it is configured for.
  package static func raise() {
    var limit = rlimit()
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard unsafe getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = limit.rlim_max
    _ = unsafe setrlimit(resource, &limit)
  }
}
