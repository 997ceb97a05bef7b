internal import CGrenacheLinux
internal import Glibc

/// What a source waits for.
package struct EventInterest: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let readable = EventInterest(rawValue: EPOLLIN.rawValue)
  package static let writable = EventInterest(rawValue: EPOLLOUT.rawValue)
}

/// What has happened to a source.
package struct ReadyEvents: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let readable = ReadyEvents(rawValue: EPOLLIN.rawValue)
  package static let writable = ReadyEvents(rawValue: EPOLLOUT.rawValue)
  /// The descriptor has failed, or both directions are closed: reported whether asked for or not.
  package static let failed = ReadyEvents(rawValue: EPOLLERR.rawValue | EPOLLHUP.rawValue)
}

/// Something with a descriptor in a loop's epoll set; its subclasses are the sockets.
package class EventSource {
  package fileprivate(set) final var descriptor: Int32
  package final var isClosed: Bool { descriptor < 0 }
  final var isDirty = false
  final var isInLine = false
  private final var interest: EventInterest = []
  private final var isRegistered = false

  init(descriptor: Int32) {
    self.descriptor = descriptor
  }

  deinit {
    if descriptor >= 0 { _ = Glibc.close(descriptor) }
  }

  /// Called on the loop when what the source waits for has happened.
  package func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {}

  /// Called at the end of a turn in which `markDirty` was called, and when its place in the line has
  /// come after `waitInLine`.
  package func turnEnded(on loop: isolated EventLoop) {}

  /// Changes what the source waits for.
  package final func watch(
    _ interest: EventInterest, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    guard !isClosed else { return }
    if !isRegistered {
      try loop.core.register(self, interest: interest)
      isRegistered = true
    } else if interest != self.interest {
      loop.core.change(self, interest: interest)
    }
    self.interest = interest
  }

  /// Waits for nothing, not even for failures, until `watch` is called again.
  final func unwatch(on loop: isolated EventLoop) {
    guard isRegistered else { return }
    loop.core.forget(self)
    isRegistered = false
  }

  /// Sets an option of a socket, as far as the system allows it.
  final func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
    var value = value
    _ = unsafe setsockopt(descriptor, level, name, &value, 4)
  }

  /// Closes the descriptor; the object lives on until the end of the turn at least.
  package final func closeDescriptor(on loop: isolated EventLoop) {
    guard !isClosed else { return }
    // Closing alone does not end the registration while a child process, between its fork and exec,
    // holds a copy of the descriptor: epoll would go on naming an object that is gone.
    if isRegistered { loop.core.forget(self) }
    _ = Glibc.close(descriptor)
    descriptor = -1
  }

  /// Gives up the descriptor without closing it, for a source of another kind to take over.
  final func surrenderDescriptor(on loop: isolated EventLoop) -> Int32 {
    let taken = descriptor
    if isRegistered {
      loop.core.forget(self)
      isRegistered = false
    }
    descriptor = -1
    return taken
  }
}

/// One epoll descriptor and the storage for its events.
@safe
final class Poller {
  let descriptor: Int32
  private let events: UnsafeMutablePointer<epoll_event>

  init(wakeDescriptor: Int32) throws(SystemCallError) {
    descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
    unsafe events = .allocate(capacity: LoopCore.eventsPerTurn)
    guard descriptor >= 0 else { throw .last("epoll_create1") }
    var event = unsafe epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t())
    unsafe event.data.u64 = 0  // no source has this address
    guard unsafe epoll_ctl(descriptor, EPOLL_CTL_ADD, wakeDescriptor, &event) == 0 else {
      throw .last("epoll_ctl")
    }
  }

  deinit {
    unsafe events.deallocate()
    if descriptor >= 0 { _ = close(descriptor) }
  }

  func add(_ source: EventSource, interest: EventInterest) throws(SystemCallError) {
    guard control(EPOLL_CTL_ADD, source, interest) == 0 else { throw .last("epoll_ctl") }
  }

  /// Cannot fail for a descriptor that is in the set.
  func change(_ source: EventSource, interest: EventInterest) {
    _ = control(EPOLL_CTL_MOD, source, interest)
  }

  func forget(_ source: EventSource) {
    _ = control(EPOLL_CTL_DEL, source, [])
  }

  private func control(
    _ operation: Int32, _ source: EventSource, _ interest: EventInterest
  ) -> Int32 {
    var event = unsafe epoll_event(events: interest.rawValue, data: epoll_data_t())
    unsafe event.data.ptr = Unmanaged.passUnretained(source).toOpaque()
    return unsafe epoll_ctl(descriptor, operation, source.descriptor, &event)
  }

  /// Waits, for ever with -1, and returns how many events there are.
  func wait(timeoutMs: Int32) -> Int {
    let count = unsafe epoll_wait(descriptor, events, Int32(LoopCore.eventsPerTurn), timeoutMs)
    return max(0, Int(count))  // an interrupted wait is an empty one
  }

  /// The event at `index`, or `nil` for the wake-up descriptor.
  ///
  /// The reference is good until the end of the turn: the loop's table or its list of sources closed
  /// in this turn holds the object.
  @inline(__always)
  func event(at index: Int) -> (source: Unmanaged<EventSource>, events: ReadyEvents)? {
    let event = unsafe events[index]
    guard let address = unsafe event.data.ptr else { return nil }
    return unsafe (Unmanaged.fromOpaque(address), ReadyEvents(rawValue: event.events))
  }
}
