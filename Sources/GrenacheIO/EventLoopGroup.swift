internal import CGrenacheLinux
internal import Synchronization

/// Several event loops, each on a thread of its own, handed out in turn.
public final class EventLoopGroup: Sendable {
  /// The loops, in the order in which they are handed out.
  public let loops: [EventLoop]
  private let turn = Atomic<Int>(0)

  /// Starts `count` loops; they live until the process ends.
  ///
  /// - Throws: the system's error when threads or descriptors are exhausted.
  public init(count: Int, name: String = "grenache") throws {
    precondition(count > 0, "an event loop group needs at least one loop")
    var loops: [EventLoop] = []
    for index in 0..<count { loops.append(try EventLoop(name: "\(name)-\(index)")) }
    self.loops = loops
  }

  /// The group that everything uses unless told otherwise: one loop a core.
  public static func shared() throws -> EventLoopGroup {
    try sharedGroup.get()
  }

  private static let sharedGroup = Result { try EventLoopGroup(count: coreCount) }

  /// The number of cores that this process may run on, by its affinity.
  public static var coreCount: Int {
    max(1, Int(grenache_core_count()))
  }

  /// The next loop in turn.
  public func next() -> EventLoop {
    let index = turn.wrappingAdd(1, ordering: .relaxed).oldValue
    return loops[Int(UInt(bitPattern: index) % UInt(loops.count))]
  }
}
