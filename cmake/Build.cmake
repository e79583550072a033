# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
#
# How everything is compiled.

# Asserts stay on in every build: no NDEBUG anywhere.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "Transom needs gcc 12 or newer, found ${CMAKE_C_COMPILER_VERSION}")
elseif(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 14)
    message(FATAL_ERROR "Transom needs clang 14 or newer, found ${CMAKE_C_COMPILER_VERSION}")
endif()

find_program(TRANSOM_CCACHE ccache)
if(TRANSOM_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER ${TRANSOM_CCACHE})
endif()

add_link_options(LINKER:--as-needed)
if(TRANSOM_SANITIZE)
    add_compile_options(-fsanitize=${TRANSOM_SANITIZE} -fno-sanitize-recover=all
                        -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${TRANSOM_SANITIZE})
    if(TRANSOM_SANITIZE MATCHES thread AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # gcc warns that ThreadSanitizer does not model atomic_thread_fence.
        add_compile_options(-Wno-tsan)
    endif()
endif()

# What runs for every task goes through many small functions of several files; compiled as one program they become few.
# Objects have both forms: what is not linked across files (the tests) links as quickly as before.
option(TRANSOM_LTO "Optimise the library across its files when it is linked (gcc)" ON)
set(transom_lto OFF)
if(TRANSOM_LTO AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE MATCHES "^Rel"
   AND NOT TRANSOM_SANITIZE)
    set(transom_lto ON)
endif()

function(transom_link_across target)
    if(transom_lto)
        set_target_properties(${target} PROPERTIES TRANSOM_ACROSS ON)
        target_link_options(${target} PRIVATE -flto=auto)
    endif()
endfunction()

function(transom_warnings target)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
        $<$<BOOL:${TRANSOM_WERROR}>:-Werror>)
endfunction()

# For our own code: C17, the whole of Linux's interfaces, all warnings.
function(transom_flags target)
    set_target_properties(${target} PROPERTIES C_STANDARD 17 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    transom_warnings(${target})
    if(transom_lto)
        target_link_options(${target} PRIVATE
            $<$<NOT:$<BOOL:$<TARGET_PROPERTY:TRANSOM_ACROSS>>>:-fno-lto>)
    endif()
endfunction()
