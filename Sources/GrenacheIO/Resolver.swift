internal import Glibc
internal import Synchronization

/// Turns a host name into addresses with the system's resolver.
package enum Resolver {
  /// Lookups that may be under way at once, those included whose callers have given up.
  package static let lookupsMax = 64
  fileprivate static let lookups = Atomic<Int>(0)

  /// Resolves `host`, an IP address or a name, within `deadline`.
  ///
  /// `getaddrinfo` blocks and cannot be ended: it runs on a thread of its own, which is left behind
  /// when the deadline passes and ends when the system's resolver gives up.
  ///
  /// - Throws: `ResolutionError`.
  package static func resolve(
    _ host: String, port: UInt16, within deadline: Duration
  ) async throws(ResolutionError) -> [SocketAddress] {
    if let address = SocketAddress(ip: host, port: port) { return [address] }
    let lookup = ResolverLookup(host: host, port: port)
    let timeout = Task {
      try await Task.sleep(for: deadline)
      lookup.finish(.failure(ResolutionError(host: host, reason: "no answer in \(deadline)")))
    }
    defer { timeout.cancel() }
    return try await withTaskCancellationHandler {
      await lookup.run()
    } onCancel: {
      lookup.finish(.failure(ResolutionError(host: host, reason: "cancelled")))
    }.get()
  }

  fileprivate static func look(
    up host: String, port: UInt16
  ) -> Result<[SocketAddress], ResolutionError> {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_ADDRCONFIG
    var list: UnsafeMutablePointer<addrinfo>?
    let code = unsafe getaddrinfo(host, nil, &hints, &list)
    defer { if let list = unsafe list { unsafe freeaddrinfo(list) } }
    guard code == 0 else {
      let reason = unsafe String(cString: gai_strerror(code))
      return .failure(ResolutionError(host: host, reason: reason))
    }
    var addresses: [SocketAddress] = []
    var entry = unsafe list
    while let info = unsafe entry {
      if let address = unsafe address(in: info.pointee, port: port), !addresses.contains(address) {
        addresses.append(address)
      }
      unsafe entry = info.pointee.ai_next
    }
    return addresses.isEmpty
      ? .failure(ResolutionError(host: host, reason: "no address")) : .success(addresses)
  }

  private static func address(in info: addrinfo, port: UInt16) -> SocketAddress? {
    var storage = sockaddr_storage()
    let size = Int(unsafe info.ai_addrlen)
    guard let source = unsafe info.ai_addr, size <= MemoryLayout<sockaddr_storage>.size else {
      return nil
    }
    unsafe withUnsafeMutableBytes(of: &storage) { target in
      unsafe target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: size))
    }
    var address = SocketAddress(storage)
    address?.port = port
    return address
  }
}

/// One call of `getaddrinfo` on its own thread; the first of answer, deadline and cancellation wins.
private final class ResolverLookup: Sendable {
  typealias Answer = Result<[SocketAddress], ResolutionError>
  private enum State {
    case idle
    case waiting(CheckedContinuation<Answer, Never>)
    case over(Answer)
  }
  private let state = Mutex(State.idle)
  private let host: String
  private let port: UInt16

  init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  func run() async -> Answer {
    await withCheckedContinuation { continuation in
      let answer: Answer? = state.withLock { state in
        if case .over(let answer) = state { return answer }
        state = .waiting(continuation)
        return nil
      }
      if let answer { continuation.resume(returning: answer) } else { startThread() }
    }
  }

  func finish(_ answer: Answer) {
    let continuation: CheckedContinuation<Answer, Never>? = state.withLock { state in
      defer { if case .over = state {} else { state = .over(answer) } }
      if case .waiting(let continuation) = state { return continuation }
      return nil
    }
    continuation?.resume(returning: answer)
  }

  private func startThread() {
    guard Resolver.lookups.wrappingAdd(1, ordering: .relaxed).newValue <= Resolver.lookupsMax else {
      Resolver.lookups.wrappingSubtract(1, ordering: .relaxed)
      return finish(.failure(ResolutionError(host: host, reason: "too many lookups under way")))
    }
    var thread = pthread_t()
    let argument = unsafe Unmanaged.passRetained(self).toOpaque()
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        let lookup = unsafe Unmanaged<ResolverLookup>.fromOpaque(argument).takeRetainedValue()
        lookup.finish(Resolver.look(up: lookup.host, port: lookup.port))
        Resolver.lookups.wrappingSubtract(1, ordering: .relaxed)
        return nil
      }, argument)
    if code == 0 {
      pthread_detach(thread)
    } else {
      unsafe Unmanaged<ResolverLookup>.fromOpaque(argument).release()
      Resolver.lookups.wrappingSubtract(1, ordering: .relaxed)
      finish(.failure(ResolutionError(host: host, reason: "no thread for the resolver")))
    }
  }
}

/// A host name could not be resolved.
package struct ResolutionError: Error, Hashable, Sendable, CustomStringConvertible {
  package let host: String
  package let reason: String
  package var description: String { "cannot resolve \(host): \(reason)" }
}
