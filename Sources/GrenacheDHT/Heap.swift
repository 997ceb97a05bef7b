/// A binary heap: the least of its elements is known at once, the others in no order.
struct Heap<Element: Comparable & Sendable>: Sendable {
  private var elements: [Element] = []

  /// - Parameter elements: in order, the least first.
  init(sorted elements: [Element] = []) {
    self.elements = elements
  }

  var count: Int { elements.count }
  var all: [Element] { elements }
  var first: Element? { elements.first }

  mutating func insert(_ element: Element) {
    elements.append(element)
    var index = elements.count - 1
    while index > 0 {
      let parent = (index - 1) / 2
      guard elements[index] < elements[parent] else { return }
      elements.swapAt(index, parent)
      index = parent
    }
  }

  mutating func removeFirst() {
    guard let last = elements.popLast(), !elements.isEmpty else { return }
    elements[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2]
      where child < elements.count && elements[child] < elements[least] {
        least = child
      }
      guard least != index else { return }
      elements.swapAt(index, least)
      index = least
    }
  }
}
