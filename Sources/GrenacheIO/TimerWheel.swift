/// A deadline on a loop; a subclass says what happens when it passes.
///
/// A timer is armed at most once at a time. Arming and cancelling are O(1) and allocate nothing, so
/// every call and every connection can afford one.
package class LoopTimer {
  fileprivate unowned(unsafe) var previous: LoopTimer?
  /// The wheel holds its timers by this reference.
  fileprivate var next: LoopTimer?
  fileprivate var tick: UInt64 = 0
  fileprivate var slot = -1
  /// Whether the deadline has passed and the loop has not come to it yet.
  fileprivate var isDue = false

  package init() {}

  /// Whether the deadline is still to come.
  package final var isArmed: Bool { slot >= 0 }

  /// Called once on the loop when the deadline has passed.
  package func fired(on loop: isolated EventLoop) {}

  /// Calls `fired`, unless the timer was cancelled or armed anew by one that was due with it.
  final func fireIfDue(on loop: isolated EventLoop) {
    guard isDue else { return }
    isDue = false
    fired(on: loop)
  }

  /// Called when the timer has been armed.
  fileprivate func armed() {}

  /// Called when the timer has been cancelled before its deadline.
  fileprivate func disarmed() {}
}

/// What a `TargetTimer` tells that its deadline has passed.
package protocol LoopTimerTarget: AnyObject {
  /// Called once on the loop when the deadline of `timer` has passed.
  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop)
}

/// A timer that tells the object that owns it that the deadline has passed.
///
/// An armed timer keeps its owner alive, who cancels it at its own end. (A weak reference would do
/// without that, but makes every other reference to its object slow.)
@safe
package final class TargetTimer: LoopTimer {
  /// Only the owner arms the timer: it is alive then.
  private unowned(unsafe) let owner: any LoopTimerTarget
  private var target: (any LoopTimerTarget)?

  package init(_ owner: any LoopTimerTarget) {
    unsafe self.owner = owner
  }

  package override func fired(on loop: isolated EventLoop) {
    let target = target
    if !isArmed { self.target = nil }
    target?.timerFired(self, on: loop)
  }

  fileprivate override func armed() { target = unsafe owner }

  fileprivate override func disarmed() { target = nil }
}

/// A hashed timing wheel: slots of `tickNanoseconds` each, every slot a doubly linked list.
///
/// A timer never fires early, and late by at most one tick (plus what the loop is busy with).
struct TimerWheel {
  static let tickNanoseconds: UInt64 = 4_000_000
  static let slotCount = 1024

  private var slots = [LoopTimer?](repeating: nil, count: slotCount)
  /// One bit for each slot that holds a timer.
  private var occupied = [UInt64](repeating: 0, count: slotCount / 64)
  /// Every timer whose tick is not after this one has been handed out.
  private var current: UInt64
  private(set) var count = 0

  init(now: MonotonicTime) {
    current = now.nanoseconds / Self.tickNanoseconds
  }

  mutating func arm(_ timer: LoopTimer, at deadline: MonotonicTime) {
    cancel(timer)
    let exact = deadline.nanoseconds / Self.tickNanoseconds
    let rounded = deadline.nanoseconds % Self.tickNanoseconds == 0 ? exact : exact &+ 1
    let tick = max(rounded, current &+ 1)
    let slot = Int(tick % UInt64(Self.slotCount))
    timer.tick = tick
    timer.slot = slot
    unsafe timer.previous = nil
    timer.next = slots[slot]
    if let head = slots[slot] { unsafe head.previous = timer }
    slots[slot] = timer
    occupied[slot / 64] |= 1 << UInt64(slot % 64)
    count += 1
    timer.armed()
  }

  mutating func cancel(_ timer: LoopTimer) {
    guard timer.isArmed || timer.isDue else { return }
    timer.isDue = false
    if timer.isArmed { unlink(timer) }
    timer.disarmed()
  }

  private mutating func unlink(_ timer: LoopTimer) {
    let slot = timer.slot
    let next = timer.next
    if let next { unsafe next.previous = timer.previous }
    if let previous = unsafe timer.previous {
      previous.next = next
    } else {
      slots[slot] = next
      if next == nil { occupied[slot / 64] &= ~(1 << UInt64(slot % 64)) }
    }
    timer.next = nil
    unsafe timer.previous = nil
    timer.slot = -1
    count -= 1
  }

  /// Takes the timers that are due at `now`, disarmed, and appends them to `due`.
  mutating func advance(to now: MonotonicTime, due: inout [LoopTimer]) {
    let target = now.nanoseconds / Self.tickNanoseconds
    guard target > current else { return }
    let steps = min(target - current, UInt64(Self.slotCount))
    if count > 0 {
      for step in 1...steps {
        let slot = Int((current &+ step) % UInt64(Self.slotCount))
        if occupied[slot / 64] & (1 << UInt64(slot % 64)) != 0 {
          takeDue(slot: slot, target: target, due: &due)
        }
      }
    }
    current = target
  }

  private mutating func takeDue(slot: Int, target: UInt64, due: inout [LoopTimer]) {
    var entry = slots[slot]
    while let timer = entry {
      entry = timer.next
      if timer.tick <= target {
        unlink(timer)
        timer.isDue = true
        due.append(timer)
      }
    }
  }

  /// When to look again: the next tick whose slot holds a timer, or `nil` when none is armed.
  ///
  /// The slot may hold only timers of a later turn of the wheel; looking once too often, every four
  /// seconds at the most, is cheaper than sorting them.
  var nextCheck: MonotonicTime? {
    guard count > 0 else { return nil }
    let first = Int((current &+ 1) % UInt64(Self.slotCount))
    var word = first / 64
    var bits = occupied[word] & (~0 << UInt64(first % 64))
    for _ in 0...occupied.count {
      if bits != 0 {
        let slot = word * 64 + bits.trailingZeroBitCount
        let distance = (slot - first + Self.slotCount) % Self.slotCount
        let tick = current &+ 1 &+ UInt64(distance)
        return MonotonicTime(nanoseconds: tick &* Self.tickNanoseconds)
      }
      word = (word + 1) % occupied.count
      bits = occupied[word]
    }
    return nil
  }
}
